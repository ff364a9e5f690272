// Talking to the server: JSON, bytes, uploads; every failure becomes one sentence.
import { useEffect, useState } from "./dom.js";
import { address } from "./router.js";

/** @param {string} url @param {RequestInit} [options] @returns {Promise<Response>} */
async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is `otoscope serve` still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error ?? `The server answered ${answer.status} to ${url}.`);
  }
  return answer;
}

/** @param {string} url @param {AbortSignal} [signal] */
export const getJson = async (url, signal) => (await ask(url, { signal })).json();

/** @param {"POST" | "PUT" | "DELETE"} method @param {string} url @param {unknown} [value] @param {AbortSignal} [signal] */
export async function sendJson(method, url, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(url, { method, headers, body: JSON.stringify(value), signal })).json();
}

/** @param {string} url @param {unknown} value @param {AbortSignal} [signal] */
export const postJson = (url, value, signal) => sendJson("POST", url, value, signal);

/**
 * Send a recording and get its clip.
 * @param {Blob} blob @param {string} name @returns {Promise<ClipInfo>}
 */
export async function upload(blob, name) {
  const headers = { "Content-Type": blob.type || "application/octet-stream" };
  return (await ask(address("/api/uploads", { name }), { method: "POST", headers, body: blob })).json();
}

/** @typedef {{ data: Uint8Array, shape: number[], span: [number, number], scale: number[], range: number[] }} Grid */

/** @type {Map<string, Promise<Grid>>} */
const grids = new Map();
const GRIDS_KEPT = 300;

/** @param {string | null} text */
const numbers = (text) => (text ? text.split(",").map(Number) : []);

/**
 * Fetch an 8-bit array (mel, lanes, waveform peaks); the latest ones are kept.
 * @param {string} url @returns {Promise<Grid>}
 */
export function getGrid(url) {
  const kept = grids.get(url);
  if (kept) {
    grids.delete(url);
    grids.set(url, kept);
    return kept;
  }
  const loading = ask(url).then(async (answer) => {
    const span = numbers(answer.headers.get("X-Otoscope-Span"));
    return {
      data: new Uint8Array(await answer.arrayBuffer()),
      shape: numbers(answer.headers.get("X-Otoscope-Shape")),
      span: /** @type {[number, number]} */ (span),
      scale: numbers(answer.headers.get("X-Otoscope-Scale")),
      range: numbers(answer.headers.get("X-Otoscope-Range")),
    };
  });
  grids.set(url, loading);
  loading.catch(() => grids.delete(url));
  if (grids.size > GRIDS_KEPT) grids.delete(/** @type {string} */ (grids.keys().next().value));
  return loading;
}

/**
 * Address of something of a clip: its sound, mel, lanes…
 * @param {ClipInfo} clip @param {string} part
 * @param {Record<string, string | number | null | undefined>} [params]
 * @param {string[]} [features]
 */
export function clipUrl(clip, part, params = {}, features = []) {
  const path = `/api/clips/${encodeURIComponent(clip.id)}${part && `/${part}`}`;
  const base = address(path, { corpus: clip.corpus, v: clip.version, ...params });
  return base + features.map((feature) => `&feature=${encodeURIComponent(feature)}`).join("");
}

/**
 * Where to get the sound of a stretch of a clip, and at which second of the clip what comes from there begins.
 * @param {ClipInfo} clip @param {number} start_s @param {number} end_s
 */
export const clipSound = (clip, start_s, end_s) => ({
  url: clipUrl(clip, "audio", { start_s: start_s.toFixed(4), end_s: end_s.toFixed(4) }),
  begins_s: start_s,
});

/** @typedef {{ data: any, error: Error | null, loading: boolean }} Loaded */

/** @type {Map<string, any>} */
const answers = new Map();

/**
 * Load JSON for a component. While another address loads, what was there before stays.
 * @param {string | null} url null: nothing to load
 * @returns {Loaded}
 */
export function useJson(url) {
  const [state, setState] = useState(() => ({
    url,
    data: url ? answers.get(url) : null,
    error: /** @type {Error | null} */ (null),
  }));
  useEffect(() => {
    if (!url) return;
    const stop = new AbortController();
    if (answers.has(url)) setState({ url, data: answers.get(url), error: null });
    getJson(url, stop.signal).then(
      (data) => {
        answers.set(url, data);
        if (answers.size > 100) answers.delete(/** @type {string} */ (answers.keys().next().value));
        setState({ url, data, error: null });
      },
      (error) => {
        if (!stop.signal.aborted) setState((before) => ({ ...before, url, error }));
      },
    );
    return () => stop.abort();
  }, [url]);
  return {
    data: state.data,
    error: state.url === url ? state.error : null,
    loading: state.url !== url || (!state.data && !state.error),
  };
}
