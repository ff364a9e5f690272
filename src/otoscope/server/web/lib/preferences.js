// What a visitor prefers on this machine: colour map, speed, starred features. Not part of any address.
import { useLayoutEffect, useState } from "./dom.js";

const changed = new EventTarget();

/** @param {string} name @param {any} otherwise */
export function preference(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`otoscope.${name}`) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
export function setPreference(name, value) {
  try {
    localStorage.setItem(`otoscope.${name}`, JSON.stringify(value));
  } catch {
    // Private windows may refuse; the choice then lasts only as long as the page.
  }
  changed.dispatchEvent(new Event(name));
}

/** @param {string} name @param {() => void} listener @returns {() => void} */
export function onPreference(name, listener) {
  changed.addEventListener(name, listener);
  return () => changed.removeEventListener(name, listener);
}

/**
 * @template T
 * @param {string} name @param {T} otherwise
 * @returns {[T, (value: T) => void]}
 */
export function usePreference(name, otherwise) {
  const [value, setValue] = useState(() => preference(name, otherwise));
  // before anything can be clicked: an effect after painting would miss what is chosen at once
  useLayoutEffect(() => onPreference(name, () => setValue(preference(name, otherwise))), [name]);
  return [value, (next) => setPreference(name, next)];
}
