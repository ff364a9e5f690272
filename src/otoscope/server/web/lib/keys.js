// One key map for the whole app; `?` shows it.
import { useLayoutEffect } from "./dom.js";

export const KEYS = [
  ["Space", "play / pause"],
  ["J  K", "next / previous example"],
  ["[  ]", "previous / next feature"],
  ["/", "search"],
  ["A", "hear only where the feature fires"],
  ["L", "name the feature yourself"],
  ["S", "star the feature"],
  ["E", "edit with this feature"],
  ["R", "a random feature"],
  ["?", "this list"],
  ["Esc", "stop, close, clear"],
];

/** @type {Record<string, (event: KeyboardEvent) => void>[]} the latest component that asks for a key gets it */
const layers = [];

/** @param {EventTarget | null} target */
const types = (target) =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) &&
  !/^(checkbox|radio|button|range)$/.test(target.getAttribute("type") ?? "");

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key !== "Escape" && types(event.target)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " " && event.target instanceof Element && event.target.closest("button, summary, [role=button]")) return;
  for (let i = layers.length - 1; i >= 0; i--) {
    const action = layers[i][key];
    if (action) {
      event.preventDefault();
      action(event);
      return;
    }
  }
});

/**
 * React to keys while the component is shown.
 * @param {Record<string, (event: KeyboardEvent) => void>} actions by lower-case key
 * @param {readonly unknown[]} inputs what the actions depend on
 */
export function useKeys(actions, inputs) {
  useLayoutEffect(() => {
    layers.push(actions);
    return () => {
      layers.splice(layers.indexOf(actions), 1);
    };
  }, inputs);
}
