// A canvas as sharp as the screen, drawn again when its size, the theme or its inputs change.
import { html, useEffect, useLayoutEffect, useRef } from "../lib/dom.js";
import { onPreference } from "../lib/preferences.js";

const theme = matchMedia("(prefers-color-scheme: dark)");

/**
 * @typedef {object} CanvasProps
 * @property {(context: CanvasRenderingContext2D, width: number, height: number) => void} draw in CSS pixels
 * @property {readonly unknown[]} inputs what the drawing depends on
 * @property {number} height
 * @property {string} label what the picture shows, for those who do not see it
 * @property {string} [class]
 */

/** @param {CanvasProps} props */
export function Canvas({ draw, inputs, height, label, class: className = "" }) {
  const ref = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const latest = useRef(draw);
  latest.current = draw;
  const paint = useRef(() => {
    const canvas = ref.current;
    if (!canvas || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, tall] = [canvas.clientWidth, canvas.clientHeight];
    const [w, h] = [Math.round(width * ratio), Math.round(tall * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(w / width, 0, 0, h / tall, 0, 0);
    context.clearRect(0, 0, width, tall);
    latest.current(context, width, tall);
  });
  useLayoutEffect(() => paint.current(), [...inputs, height]);
  useEffect(() => {
    const repaint = () => paint.current();
    const observer = new ResizeObserver(repaint);
    if (ref.current) observer.observe(ref.current);
    theme.addEventListener("change", repaint);
    const forget = onPreference("theme", () => requestAnimationFrame(repaint));
    return () => {
      observer.disconnect();
      theme.removeEventListener("change", repaint);
      forget();
    };
  }, []);
  return html`<canvas ref=${ref} class=${className} style=${{ height: `${height}px` }} role="img" aria-label=${label} />`;
}
