// Small pieces that stand for a feature: its label chip, its F1 with interval, its histogram.
import { html } from "../lib/dom.js";
import { decimal, labelText } from "../lib/format.js";

/** @param {{ label: string | null, kind: string | null, large?: boolean }} props */
export function Chip({ label, kind, large = false }) {
  if (label === null) return html`<span class="chip none">unnamed</span>`;
  return html`<span class=${`chip kind-${kind} ${large ? "large" : ""}`} title=${kind}>${labelText(label, kind)}</span>`;
}

/** @param {{ score: { f1: number | null, f1_low: number | null, f1_high: number | null }, chance?: number | null }} props */
export function F1Bar({ score: { f1, f1_low, f1_high }, chance = null }) {
  if (f1 === null) return html`<span class="f1 quiet">–</span>`;
  const at = /** @param {number} value */ (value) => `${Math.min(1, Math.max(0, value)) * 100}%`;
  const said = `F1 ${decimal(f1)}${f1_low !== null && f1_high !== null ? `, 95 % interval ${decimal(f1_low)} to ${decimal(f1_high)}` : ""}`;
  return html`<span class="f1" role="img" aria-label=${said} title=${said}>
    <span class="track"><span class="fill" style=${{ width: at(f1) }} />
      ${f1_low !== null && f1_high !== null && html`<span class="whisker" style=${{ left: at(f1_low), width: `calc(${at(f1_high)} - ${at(f1_low)})` }} />`}
      ${chance !== null && html`<span class="chance" style=${{ left: at(chance) }} title=${`chance ${decimal(chance)}`} />`}</span>
    <span class="value">${decimal(f1)}</span></span>`;
}

/** @param {{ bars: number[], width?: number, height?: number }} props heights of 0…100 */
export function MiniHistogram({ bars, width = 72, height = 22 }) {
  const step = width / Math.max(1, bars.length);
  const path = bars
    .map((bar, i) =>
      bar > 0
        ? `M${(i * step + 0.5).toFixed(1)} ${height}v${(-Math.max(1, (bar / 100) * (height - 1))).toFixed(1)}h${(step - 1).toFixed(1)}V${height}z`
        : "",
    )
    .join("");
  return html`<svg class="mini-histogram" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
    <path d=${path} /></svg>`;
}

/** One sentence where something went wrong. @param {{ error: Error | null | undefined }} props */
export function Problem({ error }) {
  return error ? html`<p class="problem" role="alert">${error.message}</p>` : null;
}
