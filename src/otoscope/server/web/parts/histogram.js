// The histogram of a feature's active frames, on a logarithmic scale.
import { html } from "../lib/dom.js";
import { themeColour } from "../lib/colour.js";
import { count, strength } from "../lib/format.js";
import { Canvas } from "./canvas.js";

/** @param {{ histogram: { edges: number[], counts: number[] }, label: string | null }} props */
export function Histogram({ histogram: { edges, counts } }) {
  const most = Math.max(1, ...counts);
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    const [left, floor] = [34, tall - 18];
    const scale = (floor - 8) / Math.log1p(most);
    context.font = `11px ${getComputedStyle(context.canvas).fontFamily}`;
    context.fillStyle = themeColour("faint");
    context.strokeStyle = themeColour("line");
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let tick = 1; tick <= most; tick *= 10) {
      const y = Math.round(floor - Math.log1p(tick) * scale) + 0.5;
      context.fillText(tick >= 1e6 ? `${tick / 1e6}M` : tick >= 1000 ? `${tick / 1000}k` : String(tick), left - 6, y);
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(width, y);
      context.stroke();
    }
    context.fillStyle = themeColour("signal");
    const step = (width - left) / counts.length;
    counts.forEach((n, i) => {
      const height = Math.log1p(n) * scale;
      context.fillRect(left + i * step, floor - height, Math.max(1, step - 1), height);
    });
    context.fillStyle = themeColour("faint");
    context.textAlign = "left";
    context.fillText(strength(edges[0]), left, tall - 7);
    context.textAlign = "right";
    context.fillText(strength(edges[edges.length - 1]), width, tall - 7);
  };
  const bins = counts.map((n, i) => ({ n, from: edges[i], to: edges[i + 1] })).filter(({ n }) => n > 0);
  return html`<${Canvas} draw=${draw} inputs=${[counts]} height=${120} label=${`histogram of ${count(counts.reduce((a, b) => a + b, 0))} active frames`} class="histogram" />
    <details class="as-table"><summary>read as table</summary><table class="plain"><thead><tr><th>from</th><th>to</th><th>frames</th></tr></thead>
      <tbody>${bins.map(({ n, from, to }) => html`<tr><td>${strength(from)}</td><td>${strength(to)}</td><td>${count(n)}</td>
        </tr>`)}</tbody></table></details>`;
}
