// Where the visitor is: behind the #, so that any web host will do. `#/feature/12?show=random`
import { useEffect, useState } from "./dom.js";

/** @typedef {{ path: string, params: URLSearchParams }} Place */

/** @returns {Place} */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path || "/", params: new URLSearchParams(query) };
}

/** @param {string} path @param {Record<string, string | number | null | undefined>} [params] */
export function address(path, params = {}) {
  const kept = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)]));
  return `#${path}${kept.length ? `?${query}` : ""}`;
}

/** Change some parameters of the address, without a step to Back. @param {Record<string, string | number | null>} changes */
export function setParams(changes) {
  const { path, params } = here();
  const next = address(path, { ...Object.fromEntries(params), ...changes });
  if (next !== location.hash) {
    history.replaceState(null, "", next);
    dispatchEvent(new Event("hashchange"));
  }
}

/** @returns {Place} the component is drawn again when it changes */
export function usePlace() {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const update = () => setPlace(here());
    addEventListener("hashchange", update);
    return () => removeEventListener("hashchange", update);
  }, []);
  return place;
}
