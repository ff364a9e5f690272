// The address bar is the state: pages read it, and change it through here.
import { useEffect, useState } from "./dom.js";

/** @typedef {{ path: string, params: URLSearchParams, href: string }} Place */

/** @returns {Place} */
export function here() {
  return {
    path: location.pathname,
    params: new URLSearchParams(location.search),
    href: location.pathname + location.search,
  };
}

const moved = new EventTarget();
const announce = () => moved.dispatchEvent(new Event("move"));

/**
 * Go to an address of the app.
 * @param {string} href
 * @param {{ replace?: boolean }} [options] replace: do not add a step to Back
 */
export function navigate(href, { replace = false } = {}) {
  if (href === here().href) return;
  const before = location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", href);
  if (before !== location.pathname) window.scrollTo(0, 0);
  announce();
}

/**
 * Change some parameters of the address; null or "" removes one.
 * @param {Record<string, string | number | boolean | null | undefined>} changes
 * @param {{ replace?: boolean }} [options]
 */
export function setParams(changes, { replace = true } = {}) {
  const { path, params } = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "" || value === false) params.delete(name);
    else params.set(name, value === true ? "1" : String(value));
  }
  navigate(address(path, params), { replace });
}

/**
 * Build an address that stays readable: only what must be escaped is.
 * @param {string} path
 * @param {URLSearchParams | Record<string, string | number | null | undefined>} [params]
 */
export function address(path, params = {}) {
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params);
  const query = entries
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${escapePart(String(value))}`)
    .join("&");
  return query ? `${path}?${query}` : path;
}

/** @param {string} text */
function escapePart(text) {
  return encodeURIComponent(text)
    .replace(/%(3A|2C|2F|40|3B)/g, (code) => decodeURIComponent(code))
    .replace(/%20/g, "+");
}

/** @returns {Place} the current address; the component is drawn again when it changes */
export function usePlace() {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const update = () => setPlace(here());
    moved.addEventListener("move", update);
    return () => moved.removeEventListener("move", update);
  }, []);
  return place;
}

/** Let plain links move inside the app without loading the page again. */
export function catchLinks() {
  addEventListener("popstate", announce);
  document.addEventListener("click", (event) => {
    if (
      event.defaultPrevented ||
      event.button !== 0 ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/api/") || link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}
