// What fires in a stretch of a clip more than elsewhere: one lane per feature, best first.
import { html, useEffect, useState } from "../lib/dom.js";
import { clipUrl, useJson } from "../lib/api.js";
import { featureAddress, featureHref, percent, strength, times } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { Chip, Problem } from "./feature-bits.js";
import { Lane, laneOf } from "./lane.js";
import { useGrid } from "./mel.js";
import { Cursor } from "./strip.js";

const N_TOP = 10;
const N_MORE = 40;
const SETTLED_MS = 180;
export const MAX_REGION_S = 60;

/** The atlas to show: the one asked for, else the first that is sparse. @param {Overview | null} overview @param {string | null} wanted */
export function ofAtlases(overview, wanted) {
  const sparse = overview?.atlases.find(({ kind }) => kind !== "neurons") ?? overview?.atlases[0];
  return wanted ?? sparse?.name ?? null;
}

/** What a value is once it has stopped changing. @template T @param {T} value @returns {T} */
export function useSettled(value) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

/** Parameters of the API for a stretch of a clip. @param {ClipInfo} clip @param {[number, number] | null} span */
export function spanParams(clip, span) {
  const [start_s, end_s] = span ?? [0, Math.min(clip.duration_s, MAX_REGION_S)];
  return { start_s: start_s.toFixed(3), end_s: end_s.toFixed(3) };
}

/** @param {{ overview: Overview | null, atlas: string | null }} props */
export function AtlasChoice({ overview, atlas }) {
  return html`<label>of <select value=${atlas} onChange=${/** @param {any} e */ (e) => setParams({ atlas: e.target.value }, { replace: false })}>
    ${(overview?.atlases ?? []).map(({ name, site }) => html`<option value=${name} selected=${name === atlas}>${name} · ${site}</option>`)}</select></label>`;
}

/**
 * @param {{ clip: ClipInfo, atlas: string | null, overview: Overview | null, pinned: string[], view: [number, number],
 *   span: [number, number] | null }} props span: the stretch, or null for the whole clip
 */
export function RegionLanes({ clip, atlas, overview, pinned, view, span }) {
  const [all, setAll] = useState(false);
  const stretch = useSettled(JSON.stringify(spanParams(clip, span)));
  const params = { atlas, top: all ? N_MORE : N_TOP, ...JSON.parse(stretch) };
  const { data, error, loading } = useJson(atlas ? clipUrl(clip, "region", params) : null);
  const region = /** @type {RegionInfo | null} */ (data);
  if (overview && !overview.atlases.length)
    return html`<p class="quiet">No atlas yet, so no features to show; <code>otoscope demo</code> builds two.</p>`;
  const rows = region?.atlas === atlas ? (region?.features ?? []) : [];
  const others = rows.filter(({ feature }) => !pinned.includes(featureAddress(feature)));
  return html`<div class="strongest"><div class="heading"><h2>${span ? "What fires here more than elsewhere" : "What fires in this clip more than elsewhere"}</h2>
      <${AtlasChoice} overview=${overview} atlas=${atlas} /></div>
    <${Problem} error=${error} />
    ${!error && loading && !rows.length && html`<p class="quiet" role="status">Looking…</p>`}
    ${!error && !loading && !rows.length && html`<p class="quiet">Nothing fires here.</p>`}
    ${pinned.map((feature) => html`<${FeatureLane} key=${feature} clip=${clip} feature=${feature} row=${rows.find((row) => featureAddress(row.feature) === feature)} pinned view=${view} />`)}
    ${others.map((row) => html`<${FeatureLane} key=${featureAddress(row.feature)} clip=${clip} feature=${featureAddress(row.feature)} row=${row} view=${view} />`)}
    ${rows.length >= N_TOP && html`<p class="more"><button class="quiet-button" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? "Fewer" : "More features"}</button></p>`}
  </div>`;
}

/** @param {{ clip: ClipInfo, feature: string, row?: RegionFeature, pinned?: boolean, view: [number, number] }} props */
function FeatureLane({ clip, feature, row, pinned = false, view: [start_s, end_s] }) {
  const { value: lane, error } = useGrid(
    clipUrl(clip, "lane", { start_s: start_s.toFixed(2), end_s: end_s.toFixed(2) }, [feature]),
    (grid) => laneOf(grid, 0),
  );
  const [, atlas, index] = /** @type {RegExpExecArray} */ (/^(.*):(\d+)$/.exec(feature) ?? ["", feature, "0"]);
  const highest = lane ? lane.values.reduce((most, value) => Math.max(most, value), 0) : 0;
  const said = row
    ? `above ${strength(row.above)} in ${percent(row.share)} of these frames, ${times(row.lift)} as often as elsewhere; q = ${row.q_value.toPrecision(1)}`
    : "";
  return html`<div class="gutter-row lane-row">
    <a class="gutter" href=${featureHref({ atlas, index: Number(index) })} title=${said}>
      ${row ? html`<${Chip} label=${row.feature.label} kind=${row.feature.label_kind} />` : html`<span class="chip pinned">pinned</span>`}
      <span class="quiet">${pinned && row ? "pinned " : ""}${row?.feature.unit ?? `${atlas}:${index}`}</span>
      ${row && html`<span class=${row.q_value <= 0.05 ? "lift" : "lift quiet"}>${times(row.lift)}</span>`}</a>
    <div class="lane-box">${
      error
        ? html`<${Problem} error=${error} />`
        : html`<${Lane} lane=${lane} top=${row?.feature.max || highest || 1} start_s=${start_s} end_s=${end_s} height=${22} look="heat"
        label=${`activation of ${feature}, highest ${strength(highest)}`} />`
    }
      <${Cursor} id=${`clip ${clip.id}`} start_s=${start_s} end_s=${end_s} /></div>
  </div>`;
}
