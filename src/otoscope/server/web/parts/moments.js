// Moments that a search found: a card each, to see, hear and open; and pages of them.
import { html, useEffect, useState } from "../lib/dom.js";
import { getJson } from "../lib/api.js";
import { clipHref, clock, count, decimal, featureAddress, featureHref, labelText, strength } from "../lib/format.js";
import { Problem } from "./feature-bits.js";
import { Icon } from "./icons.js";
import { PlayButton } from "./play-button.js";
import { Strip } from "./strip.js";

const PAGE = 24;
const AROUND_S = 1;

/** A feature as a small link. @param {{ feature: FeatureName }} props */
export function FeatureLink({ feature }) {
  const { label, label_kind, atlas, unit } = feature;
  const title = `${atlas}:${unit}${label === null ? "" : `, ${labelText(label, label_kind)}`}`;
  return html`<a class=${`chip kind-${label_kind ?? "none"}`} href=${featureHref(feature)} title=${title}>
    ${label === null ? unit : `${labelText(label, label_kind)} ${unit}`}</a>`;
}

/**
 * @param {{ moment: MomentInfo, id: string, feature?: string, top?: number }} props
 *   feature: the lane to draw (ATLAS:INDEX); otherwise that of the first shared feature
 */
export function MomentCard({ moment, id, feature, top }) {
  const { clip, start_s, end_s, time_s, value, similarity, shared } = moment;
  const middle = (start_s + end_s) / 2;
  const half = Math.max((end_s - start_s) / 2 + 0.25, AROUND_S);
  const lane = feature ?? (shared[0] ? featureAddress(shared[0]) : undefined);
  const sound = { key: id, clip, start_s: middle - half, end_s: middle + half, title: clip.title };
  const open = { t: `${start_s.toFixed(2)}-${end_s.toFixed(2)}`, ...(lane ? { f: lane } : {}) };
  return html`<article class="example moment" data-moment=${clip.id}>
    <header><${PlayButton} sound=${sound} />
      ${value !== null && html`<span class="value" title="value at its strongest frame">${strength(value)}</span>`}
      ${similarity !== null && html`<span class="value" title="cosine of what fires here and there">${decimal(similarity)}</span>`}
      <span class="text" title=${clip.title}>${clip.title}</span>
      <span class="quiet when">${clip.speaker ?? ""} ${clock(time_s)}</span>
      <a class="icon small" href=${clipHref(clip, open)} title="Open the clip" aria-label="Open the clip"><${Icon} name="open" size=${15} /></a>
    </header>
    <${Strip} id=${id} clip=${clip} start_s=${sound.start_s} end_s=${sound.end_s} feature=${lane} top=${top} at_s=${time_s} mark=${[start_s, end_s]} />
    ${shared.length > 0 && html`<p class="shared">${shared.slice(0, 5).map((each) => html`<${FeatureLink} key=${featureAddress(each)} feature=${each} />`)}</p>`}
  </article>`;
}

/**
 * All moments that an address of the API answers with, page after page.
 * @param {{ url: string, id: string, feature?: string, top?: number, nothing: string }} props url: without offset and limit
 */
export function MomentList({ url, id, feature, top, nothing }) {
  const { found, error, busy, more } = usePages(url);
  if (error) return html`<${Problem} error=${error} />`;
  if (!found) return html`<p class="quiet" role="status">Searching…</p>`;
  return html`<p class="count" role="status">${found.n_frames ? totals(found) : nothing}${
    found.complete_from > 0 ? ` · values below ${strength(found.complete_from)} are not kept` : ""
  }</p>
    <div class="grid">${found.moments.map(
      (moment, i) => html`<${MomentCard} key=${`${id} ${moment.clip.id} ${moment.start_s}`} moment=${moment} id=${`${id} ${i}`}
        feature=${feature} top=${top} />`,
    )}</div>
    ${
      found.moments.length < found.n_moments &&
      html`<p class="more"><button disabled=${busy} onClick=${more}>More moments</button>
      <span class="quiet">${count(found.moments.length)} of ${count(found.n_moments)}</span></p>`
    }`;
}

/** @param {MomentPage} found */
function totals({ n_frames, n_moments, n_clips }) {
  const of = /** @param {number} n @param {string} noun */ (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
  return `${of(n_frames, "frame")} in ${of(n_moments, "moment")} of ${of(n_clips, "clip")}`;
}

/** @param {string} url */
function usePages(url) {
  const [state, setState] = useState(() => ({
    url: "",
    found: /** @type {MomentPage | null} */ (null),
    error: /** @type {Error | null} */ (null),
    busy: false,
  }));
  const page = (/** @type {number} */ offset) =>
    `${url}${url.includes("?") ? "&" : "?"}limit=${PAGE}&offset=${offset}`;
  useEffect(() => {
    const stop = new AbortController();
    getJson(page(0), stop.signal).then(
      (found) => setState({ url, found, error: null, busy: false }),
      (error) => !stop.signal.aborted && setState({ url, found: null, error, busy: false }),
    );
    return () => stop.abort();
  }, [url]);
  const more = async () => {
    const before = state.found;
    if (!before) return;
    setState({ ...state, busy: true });
    const told = await getJson(page(before.moments.length)).catch((/** @type {Error} */ error) => error);
    setState((now) => {
      if (now.found !== before) return now;
      if (told instanceof Error) return { ...now, error: told, busy: false };
      return { ...now, found: { ...told, moments: [...before.moments, ...told.moments] }, busy: false };
    });
  };
  return { ...state, more };
}
