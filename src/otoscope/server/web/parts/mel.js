// The model's own log-mel: exactly the numbers it hears, lowest band at the bottom.
import { html, useEffect, useMemo, useState } from "../lib/dom.js";
import { clipUrl, getGrid } from "../lib/api.js";
import { colourTable } from "../lib/colour.js";
import { usePreference } from "../lib/preferences.js";
import { Canvas } from "./canvas.js";

/**
 * @param {import("../lib/api.js").Grid} grid
 * @param {Uint32Array} colours
 * @returns {HTMLCanvasElement}
 */
function melImage({ data, shape: [bins, columns] }, colours) {
  const image = document.createElement("canvas");
  image.width = Math.max(1, columns);
  image.height = bins;
  const pixels = new ImageData(image.width, bins);
  const words = new Uint32Array(pixels.data.buffer);
  for (let m = 0; m < bins; m++) {
    const [from, to] = [m * columns, (bins - 1 - m) * image.width];
    for (let t = 0; t < columns; t++) words[to + t] = colours[data[from + t]];
  }
  image.getContext("2d")?.putImageData(pixels, 0, 0);
  return image;
}

/**
 * @template T
 * @param {string | null} url
 * @param {(grid: import("../lib/api.js").Grid) => T} prepare
 * @returns {{ value: T | null, error: Error | null }}
 */
export function useGrid(url, prepare) {
  const [state, setState] = useState(() => ({
    value: /** @type {T | null} */ (null),
    error: /** @type {Error | null} */ (null),
  }));
  useEffect(() => {
    if (!url) return;
    let wanted = true;
    getGrid(url).then(
      (grid) => wanted && setState({ value: prepare(grid), error: null }),
      (error) => wanted && setState({ value: null, error }),
    );
    return () => {
      wanted = false;
    };
  }, [url]);
  return state;
}

/** @param {{ clip: ClipInfo, start_s: number, end_s: number, height: number, load: boolean, label: string }} props */
export function MelCanvas({ clip, start_s, end_s, height, load, label }) {
  const [map] = usePreference("colours", "magma");
  const from = Math.max(0, start_s);
  const to = Math.min(clip.duration_s, end_s);
  const url = load ? clipUrl(clip, "mel", { start_s: from.toFixed(2), end_s: to.toFixed(2), columns: 2048 }) : null;
  const { value: grid, error } = useGrid(url, (loaded) => loaded);
  const image = useMemo(() => (grid && grid.shape[1] > 0 ? melImage(grid, colourTable(map)) : null), [grid, map]);
  if (error) return html`<p class="problem">${error.message}</p>`;
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} tall */
  const draw = (context, width, tall) => {
    if (!image || !grid) return;
    const scale = width / (end_s - start_s);
    const left = (grid.span[0] - start_s) * scale;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, left, 0, (grid.span[1] - grid.span[0]) * scale, tall);
  };
  return html`<${Canvas} draw=${draw} inputs=${[grid, map, start_s, end_s]} height=${height} label=${label} class="mel" />`;
}
