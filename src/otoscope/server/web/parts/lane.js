// A lane: how strongly something fires over time, as a curve or as a strip of colour.
import { html } from "../lib/dom.js";
import { colourTable, themeColour } from "../lib/colour.js";
import { Canvas } from "./canvas.js";

/** @typedef {{ values: Float32Array, start_s: number, end_s: number }} LaneData values in units of the feature */

/**
 * Take one lane out of a grid of lanes.
 * @param {import("../lib/api.js").Grid} grid @param {number} row
 * @returns {LaneData}
 */
export function laneOf({ data, shape: [, columns], span, scale }, row) {
  const values = Float32Array.from(
    data.subarray(row * columns, (row + 1) * columns),
    (byte) => (byte / 255) * scale[row],
  );
  return { values, start_s: span[0], end_s: span[1] };
}

/**
 * @typedef {object} LaneProps
 * @property {LaneData | null} lane
 * @property {number} top the value at full height
 * @property {number} start_s
 * @property {number} end_s
 * @property {number} height
 * @property {string} label
 * @property {"curve" | "heat"} [look]
 */

/** @param {LaneProps} props */
export function Lane({ lane, top, start_s, end_s, height, label, look = "curve" }) {
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    if (!lane || !lane.values.length) return;
    const scale = width / (end_s - start_s);
    const step = ((lane.end_s - lane.start_s) / lane.values.length) * scale;
    const left = (lane.start_s - start_s) * scale;
    (look === "heat" ? drawHeat : drawCurve)(context, lane.values, top, left, step, tall);
  };
  return html`<${Canvas}
    draw=${draw} inputs=${[lane, top, start_s, end_s, look]} height=${height} label=${label} class=${`lane ${look}`} />`;
}

/** @param {CanvasRenderingContext2D} context @param {Float32Array} values @param {number} top @param {number} left @param {number} step @param {number} tall */
function drawCurve(context, values, top, left, step, tall) {
  const y = /** @param {number} value */ (value) => tall - 1 - Math.min(1, Math.max(0, value / top)) * (tall - 3);
  const colour = themeColour("signal");
  context.beginPath();
  context.moveTo(left, tall);
  values.forEach((value, i) => {
    context.lineTo(left + i * step, y(value));
    context.lineTo(left + (i + 1) * step, y(value));
  });
  context.lineTo(left + values.length * step, tall);
  context.closePath();
  context.globalAlpha = 0.28;
  context.fillStyle = colour;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = 1.25;
  context.stroke();
}

/** @param {CanvasRenderingContext2D} context @param {Float32Array} values @param {number} top @param {number} left @param {number} step @param {number} tall */
function drawHeat(context, values, top, left, step, tall) {
  const colours = colourTable("viridis");
  values.forEach((value, i) => {
    if (value <= 0) return;
    const share = Math.min(1, value / top);
    const rgb = colours[Math.round(share * 255)];
    context.fillStyle = `rgba(${rgb & 255},${(rgb >> 8) & 255},${(rgb >> 16) & 255},${0.25 + 0.75 * share})`;
    context.fillRect(left + i * step, 1, step + 0.5, tall - 2);
  });
}

/** The waveform's outline. @param {{ grid: import("../lib/api.js").Grid | null, start_s: number, end_s: number, from_s: number, to_s: number, height: number }} props */
export function Waveform({ grid, start_s, end_s, from_s, to_s, height }) {
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    if (!grid) return;
    const columns = grid.shape[1];
    const signed = new Int8Array(grid.data.buffer);
    const scale = width / (end_s - start_s);
    const [left, step] = [(from_s - start_s) * scale, ((to_s - from_s) * scale) / columns];
    const loudest = signed.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    context.fillStyle = themeColour("wave");
    for (let i = 0; i < columns; i++) {
      const [low, high] = [signed[i] / loudest, signed[columns + i] / loudest];
      const [up, down] = [(1 - high) * 0.5 * tall, (1 - low) * 0.5 * tall];
      context.fillRect(left + i * step, up, Math.max(step, 0.75), Math.max(0.75, down - up));
    }
  };
  return html`<${Canvas} draw=${draw} inputs=${[grid, start_s, end_s]} height=${height} label="waveform" class="wave" />`;
}
