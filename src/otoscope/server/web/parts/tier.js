// A tier: labelled intervals (words, phones, events) under the picture, as in Praat.
import { html } from "../lib/dom.js";
import { themeColour } from "../lib/colour.js";
import { Canvas } from "./canvas.js";

/** @param {Interval[]} intervals @param {number} start_s @param {number} end_s */
export const visible = (intervals, start_s, end_s) => intervals.filter((i) => i.end_s > start_s && i.start_s < end_s);

/** @param {{ name: string, intervals: Interval[], start_s: number, end_s: number, height: number, at_s?: number | null }} props */
export function Tier({ name, intervals, start_s, end_s, height, at_s = null }) {
  const shown = visible(intervals, start_s, end_s);
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    const scale = width / (end_s - start_s);
    context.font = `${name === "phones" ? 12.5 : 12}px ${getComputedStyle(context.canvas).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const [line, ink, faint, mark] = [
      themeColour("line-strong"),
      themeColour("ink"),
      themeColour("faint"),
      themeColour("mark"),
    ];
    for (const { start_s: from, end_s: to, label } of shown) {
      const left = Math.round((from - start_s) * scale) + 0.5;
      const right = Math.round((to - start_s) * scale) + 0.5;
      const here = at_s !== null && from <= at_s && at_s < to;
      if (here) {
        context.fillStyle = mark;
        context.fillRect(left, 0, right - left, tall);
      }
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(left, 0);
      context.lineTo(left, tall);
      context.moveTo(right, 0);
      context.lineTo(right, tall);
      context.stroke();
      const [low, high] = [Math.max(left, 0), Math.min(right, width)];
      if (context.measureText(label).width > high - low - 2) continue;
      context.fillStyle = here ? ink : faint;
      context.fillText(label, (low + high) / 2, tall / 2 + 0.5);
    }
  };
  const label = `${name}: ${shown.map((i) => i.label).join(" ")}`;
  return html`<${Canvas} draw=${draw} inputs=${[intervals, start_s, end_s, at_s]} height=${height} label=${label} class=${`tier ${name}`} />`;
}
