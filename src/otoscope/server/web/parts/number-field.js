// A number that can be typed in peace: what else happens on the page does not touch it until it is finished.
import { html, useEffect, useRef } from "../lib/dom.js";

/** @param {{ value: number, digits?: number, label: string, min?: number, max?: number, step?: number | "any", onValue: (value: number) => void }} props */
export function NumberField({ value, digits, label, min, max, step = "any", onValue }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const shown = digits === undefined ? String(Number(value.toPrecision(4))) : value.toFixed(digits);
  const show = () => {
    if (field.current) field.current.value = shown;
  };
  useEffect(() => {
    if (document.activeElement !== field.current) show();
  }, [shown]);
  const finish = (/** @type {any} */ event) => {
    const typed = event.target.valueAsNumber;
    if (Number.isFinite(typed)) onValue(typed);
  };
  return html`<input ref=${field} type="number" defaultValue=${shown} min=${min} max=${max} step=${step} aria-label=${label} onChange=${finish} onBlur=${show} />`;
}
