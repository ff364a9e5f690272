// The histogram of a feature's active frames, on a logarithmic scale: both sides of neurons, split by class where that is
// known, with a brush that chooses a range of values.
import { html, useRef } from "../lib/dom.js";
import { themeColour } from "../lib/colour.js";
import { count, labelText, strength } from "../lib/format.js";
import { Canvas } from "./canvas.js";

const LEFT = 34;
const FOOT = 18;
const GRIP_PX = 7;

/** @typedef {[number, number]} Range low and high; both negative for the other side of a neuron */

/**
 * @typedef {object} HistogramProps
 * @property {HistogramInfo} histogram
 * @property {HistogramInfo | null} [opposite] the other side of a neuron, drawn below zero
 * @property {Stack[]} [stacks] the same frames by class
 * @property {Range | null} [range]
 * @property {(range: Range | null) => void} [onRange]
 */

/** @param {HistogramProps} props */
export function Histogram({ histogram, opposite = null, stacks = [], range = null, onRange }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const top = histogram.edges[histogram.edges.length - 1];
  const bottom = opposite ? -opposite.edges[opposite.edges.length - 1] : 0;
  const bins = [...(opposite ? mirrored(opposite) : []), ...binsOf(histogram)];
  const most = Math.max(1, ...bins.map(({ n }) => n));
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    const floor = tall - FOOT;
    const scale = (floor - 8) / Math.log1p(most);
    const x = /** @param {number} value */ (value) => LEFT + ((value - bottom) / (top - bottom || 1)) * (width - LEFT);
    drawAxis(context, most, floor, scale, width);
    for (const { n, from, to } of bins) {
      const height = Math.log1p(n) * scale;
      context.fillStyle = themeColour(from < 0 ? "wave" : "signal");
      context.fillRect(x(from), floor - height, Math.max(1, x(to) - x(from) - 1), height);
    }
    drawStacks(context, stacks, histogram, floor, scale, x);
    context.fillStyle = themeColour("faint");
    context.textAlign = "left";
    if (!opposite || x(0) - LEFT > 44) context.fillText(strength(bottom), LEFT, tall - 7);
    if (opposite) context.fillText("0", x(0) - 3, tall - 7);
    context.textAlign = "right";
    context.fillText(strength(top), width, tall - 7);
  };
  const drag = useBrush(box, bottom, top, range, onRange);
  const at = /** @param {number} value */ (value) =>
    `calc(${LEFT}px + (100% - ${LEFT}px) * ${Math.min(1, Math.max(0, (value - bottom) / (top - bottom || 1)))})`;
  const shown = bins.filter(({ n }) => n > 0);
  return html`<div class=${`brushed ${onRange ? "can" : ""}`} ref=${box} ...${drag}>
      <${Canvas} draw=${draw} inputs=${[histogram, opposite, stacks]} height=${130} class="histogram"
        label=${`histogram of ${count(histogram.counts.reduce((a, b) => a + b, 0))} active frames`} />
      ${range && html`<div class="range" style=${{ left: at(range[0]), right: `calc(100% - ${at(range[1])})`, bottom: `${FOOT}px` }}><i /><i /></div>`}
    </div>
    ${stacks.length > 1 && html`<ul class="stacks">${stacks.map(({ label, kind, counts }, i) => counts.some(Boolean) && html`<li><i style=${{ background: `var(--stack-${label === null ? "rest" : i})` }} />${label === null ? "other frames" : labelText(label, kind)}</li>`)}</ul>`}
    <details class="as-table"><summary>read as table</summary><table class="plain"><thead><tr><th>from</th><th>to</th><th>frames</th></tr></thead>
      <tbody>${shown.map(({ n, from, to }) => html`<tr><td>${strength(from)}</td><td>${strength(to)}</td><td>${count(n)}</td></tr>`)}</tbody></table></details>`;
}

/** @param {HistogramInfo} histogram */
const binsOf = ({ edges, counts }) => counts.map((n, i) => ({ n, from: edges[i], to: edges[i + 1] }));

/** @param {HistogramInfo} histogram */
const mirrored = (histogram) =>
  binsOf(histogram)
    .map(({ n, from, to }) => ({ n, from: -to, to: -from }))
    .reverse();

/** @param {CanvasRenderingContext2D} context @param {number} most @param {number} floor @param {number} scale @param {number} width */
function drawAxis(context, most, floor, scale, width) {
  context.font = `11px ${getComputedStyle(context.canvas).fontFamily}`;
  context.fillStyle = themeColour("faint");
  context.strokeStyle = themeColour("line");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let tick = 1; tick <= most; tick *= 10) {
    const y = Math.round(floor - Math.log1p(tick) * scale) + 0.5;
    context.fillText(tick >= 1e6 ? `${tick / 1e6}M` : tick >= 1000 ? `${tick / 1000}k` : String(tick), LEFT - 6, y);
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(width, y);
    context.stroke();
  }
}

/**
 * Colour each bar by the share of each class in its bin.
 * @param {CanvasRenderingContext2D} context @param {Stack[]} stacks @param {HistogramInfo} histogram
 * @param {number} floor @param {number} scale @param {(value: number) => number} x
 */
function drawStacks(context, stacks, { edges, counts }, floor, scale, x) {
  if (stacks.length < 2) return;
  const colours = stacks.map(({ label }, i) => themeColour(`stack-${label === null ? "rest" : i}`));
  counts.forEach((n, bin) => {
    const total = stacks.reduce((sum, stack) => sum + stack.counts[bin], 0);
    const height = Math.log1p(n) * scale;
    let y = floor;
    stacks.forEach((stack, i) => {
      const part = total ? (stack.counts[bin] / total) * height : 0;
      context.fillStyle = colours[i];
      context.fillRect(x(edges[bin]), y - part, Math.max(1, x(edges[bin + 1]) - x(edges[bin]) - 1), part);
      y -= part;
    });
  });
}

/**
 * Drag to choose a range on one side of zero; drag an end to move it; click to forget it.
 * @param {import("../lib/dom.js").Ref<HTMLDivElement | null>} box @param {number} bottom @param {number} top
 * @param {Range | null} range @param {((range: Range | null) => void) | undefined} onRange
 */
function useBrush(box, bottom, top, range, onRange) {
  const held = useRef(/** @type {{ fixed: number, moved: boolean } | null} */ (null));
  if (!onRange) return {};
  const geometry = () => {
    const { left, width } = /** @type {HTMLDivElement} */ (box.current).getBoundingClientRect();
    return { left: left + LEFT, width: width - LEFT };
  };
  /** @param {PointerEvent} event */
  const value = (event) => {
    const { left, width } = geometry();
    return bottom + Math.min(1, Math.max(0, (event.clientX - left) / width)) * (top - bottom);
  };
  return {
    /** @param {PointerEvent} event */
    onPointerDown(event) {
      if (event.button !== 0) return;
      const at = value(event);
      const reach = (GRIP_PX / geometry().width) * (top - bottom);
      const fixed =
        range && Math.abs(at - range[0]) < reach ? range[1] : range && Math.abs(at - range[1]) < reach ? range[0] : at;
      held.current = { fixed, moved: fixed !== at };
      box.current?.setPointerCapture(event.pointerId);
    },
    /** @param {PointerEvent} event */
    onPointerMove(event) {
      const { current } = held;
      if (!current || !event.buttons) return;
      const at = current.fixed < 0 ? Math.min(0, value(event)) : Math.max(0, value(event));
      if (Math.abs(at - current.fixed) < (top - bottom) / 200) return;
      current.moved = true;
      onRange([Math.min(at, current.fixed), Math.max(at, current.fixed)]);
    },
    onPointerUp() {
      if (held.current && !held.current.moved) onRange(null);
      held.current = null;
    },
  };
}
