// The same door to the data as the app's, onto the files of this folder: nothing is asked of any server of ours.
import { useEffect, useState } from "./dom.js";

/** @typedef {{ data: Uint8Array, shape: number[], span: [number, number], scale: number[], range: number[] }} Grid */

/**
 * @typedef {object} Site what `data/site.json` says
 * @property {string} name
 * @property {string} model
 * @property {string} site
 * @property {{ name: string, kind: string }} dictionary
 * @property {string} corpus
 * @property {number} frame_s
 * @property {number} n_frames
 * @property {number} n_clips
 * @property {number} n_in_atlas
 * @property {number} n_features
 * @property {number | null} n_units units of the layer, where every unit has two features
 * @property {number} rows
 * @property {number} pages
 * @property {[string, string][]} columns
 * @property {number} n_mels
 * @property {string} audio what sound files end in; "" without sound
 * @property {string} licence
 * @property {string[]} credits
 * @property {string} otoscope
 * @property {{ number: number, label: string, kind: string, n_features: number, best_f1: number | null }[]} classes
 */

/** @typedef {ClipInfo & { sound: string, lane: Grid | null }} Window a stretch of a clip; its times count from its start */

/** @param {string} url @returns {Promise<Response>} */
async function ask(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error(`${url} could not be loaded; was the whole folder copied?`);
  return answer;
}

const KEPT = 200;

/** @template T @param {(key: string) => Promise<T>} load @returns {(key: string) => Promise<T>} */
function remembering(load) {
  /** @type {Map<string, Promise<T>>} */
  const kept = new Map();
  return (key) => {
    const found = kept.get(key) ?? load(key);
    kept.delete(key);
    kept.set(key, found);
    found.catch(() => kept.delete(key));
    if (kept.size > KEPT) kept.delete(/** @type {string} */ (kept.keys().next().value));
    return found;
  };
}

/** @type {(url: string) => Promise<any>} */
export const getJson = remembering(async (url) => (await ask(url)).json());

/** @returns {Promise<Site>} */
export const getSite = () => getJson("data/site.json");

const getMel = remembering(async (url) => {
  const { n_mels } = await getSite();
  const data = new Uint8Array(await (await ask(url)).arrayBuffer());
  const columns = data.length / n_mels;
  return /** @type {Grid} */ ({ data, shape: [n_mels, columns], span: [0, columns / 100], scale: [], range: [] });
});

/** @type {Map<string, Grid>} lanes come with the pages, not from files */
const lanes = new Map();

/** @param {string} url @returns {Promise<Grid>} */
export async function getGrid(url) {
  const lane = lanes.get(url);
  return lane ?? getMel(url);
}

/** @param {ClipInfo} clip @param {string} part */
export function clipUrl(clip, part) {
  const { sound, lane, id } = /** @type {Window} */ (clip);
  if (part !== "lane" || !lane) return `${sound}.mel`;
  lanes.set(id, lane);
  return id;
}

let ending = "";
void getSite().then(({ audio }) => (ending = audio));

/** @param {ClipInfo} clip */
export const clipSound = (clip) => ({ url: `${/** @type {Window} */ (clip).sound}${ending}`, begins_s: 0 });

/** Show what a promise gives. @template T @param {() => Promise<T>} load @param {readonly unknown[]} inputs */
export function useLoaded(load, inputs) {
  const [state, setState] = useState(() => ({
    data: /** @type {T | null} */ (null),
    error: /** @type {Error | null} */ (null),
  }));
  useEffect(() => {
    let wanted = true;
    load().then(
      (data) => wanted && setState({ data, error: null }),
      (error) => wanted && setState({ data: null, error }),
    );
    return () => {
      wanted = false;
    };
  }, [...inputs]);
  return state;
}
