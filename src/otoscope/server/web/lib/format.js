// Numbers and names as people read them.

const whole = new Intl.NumberFormat("en");

/** @param {number} value */
export const count = (value) => whole.format(value);

/** @param {number | null | undefined} value @param {number} [digits] */
export function decimal(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const shown = value.toFixed(digits);
  return Number(shown) === 0 ? shown.replace("-", "") : shown.replace("-", "−");
}

/** @param {number} value a share of 1 */
export function percent(value) {
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.1 %";
  return `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
}

/** @param {number} value an activation */
export const strength = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds >= 3600) return `${(seconds / 3600).toFixed(1)} h`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

/** @param {number} seconds a position, as a counter: 0:01.25 */
export function clock(seconds) {
  const s = Math.max(0, seconds);
  return `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, "0")}`;
}

/** @param {number} lift how many times as often as elsewhere */
export const times = (lift) => `${lift >= 10 ? count(Math.round(lift)) : decimal(lift, 1)}×`;

/** Read "1.2-1.5". @param {string | null} text @returns {[number, number] | null} */
export function parseSpan(text) {
  const match = /^([\d.]+)-([\d.]+)$/.exec(text ?? "");
  if (!match) return null;
  const [from, to] = [Number(match[1]), Number(match[2])];
  return Number.isFinite(from) && Number.isFinite(to) && from < to ? [from, to] : null;
}

/** @param {[number, number] | null} span */
export const spanText = (span) => (span ? `${span[0].toFixed(2)}-${span[1].toFixed(2)}` : null);

/** @param {{ atlas: string, index: number }} row */
export const featureAddress = (row) => `${row.atlas}:${row.index}`;

/** @param {{ atlas: string, index: number }} row */
export const featureHref = (row) => `/feature/${encodeURIComponent(row.atlas)}:${row.index}`;

/** @param {ClipInfo} clip @param {Record<string, string | number>} [params] */
export function clipHref(clip, params = {}) {
  const query = new URLSearchParams({ corpus: clip.corpus, ...params });
  return `/clip/${encodeURIComponent(clip.id)}?${query}`;
}

/** @param {string | null} label @param {string | null} kind */
export const labelText = (label, kind) =>
  label === null ? "" : kind === "phone" ? `/${label}/` : label.replaceAll("_", " ");
