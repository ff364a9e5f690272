// Moments of one feature, kind after kind: strongest, whole range, random, near misses, and any range of values.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { clipHref, clock, featureAddress, strength } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, here, setParams } from "../lib/router.js";
import { transport } from "../lib/transport.js";
import { Problem } from "./feature-bits.js";
import { Icon } from "./icons.js";
import { MomentList } from "./moments.js";
import { NumberField } from "./number-field.js";
import { PlayButton } from "./play-button.js";
import { Strip, StripTable } from "./strip.js";

const TABS = [
  ["top", "Strongest"],
  ["decile", "Whole range"],
  ["random", "Random"],
  ["near_miss", "Near misses"],
  ["range", "By value"],
];
export const SPANS = [1, 2, 4];

/** The kind of examples that an address asks for. @param {URLSearchParams} params */
export const tabOf = (params) => TABS.find(([name]) => name === params.get("show"))?.[0] ?? "top";

/** The range of values that an address asks for. @param {URLSearchParams} params @returns {[number, number] | null} */
export function rangeOf(params) {
  const [low, high] = [params.get("low"), params.get("high")].map((text) => (text === null ? NaN : Number(text)));
  return low < high ? [low, high] : null;
}

/** Show the moments within a range, or forget it. @param {[number, number] | null} range */
export const setRange = (range) =>
  setParams({
    low: range && Number(range[0].toPrecision(4)) === 0 ? "0" : range && range[0].toPrecision(4),
    high: range && range[1].toPrecision(4),
    show: range ? "range" : null,
    x: null,
  });

/** @param {{ info: FeatureInfo, tab: string, span_s: number, active: number }} props */
export function Examples({ info, tab, span_s, active }) {
  const { row } = info;
  const { examples, error, loading } = useExamples(info, tab);
  const grid = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [spotlight, setSpotlight] = useState(false);
  const lanes = useMemo(
    () => /** @type {Map<number, import("../parts/lane.js").LaneData>} */ (new Map()),
    [info, tab, span_s],
  );
  /** @param {number} i @returns {import("../lib/transport.js").Sound} */
  const soundOf = (i) => {
    const { clip, time_s } = examples[i];
    const lane = spotlight ? lanes.get(i) : null;
    return {
      key: `${tab} ${i} ${featureAddress(row)}`,
      clip,
      start_s: time_s - span_s / 2,
      end_s: time_s + span_s / 2,
      title: `${row.atlas}:${row.unit} in “${clip.title}”`,
      loudness: lane
        ? { ...lane, values: lane.values.map((value) => 0.03 + 0.97 * Math.min(1, value / row.max)) }
        : null,
    };
  };
  const current = Math.min(Math.max(0, active), examples.length - 1);
  /** The example chosen last, even if it is not drawn yet. */
  const latest = () => Math.min(Math.max(0, Number(here().params.get("x") ?? 0)), examples.length - 1);
  /** @param {number} i */
  const select = (i) => {
    if (i < 0 || i >= examples.length) return;
    setParams({ x: i || null });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    grid.current?.children[i]?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  };
  useKeys(
    {
      j: () => select(latest() + 1),
      k: () => select(latest() - 1),
      " ": () => examples.length && transport.toggle(soundOf(latest())),
      a: () => setSpotlight((on) => !on),
    },
    [examples, spotlight, span_s, tab],
  );
  useEffect(() => () => transport.stop(), [info]);
  const hover = useCallback((/** @type {PointerEvent} */ event) => {
    const strip = event.target instanceof Element ? event.target.closest(".strip") : null;
    if (!strip || !grid.current) return;
    const { left, width } = strip.getBoundingClientRect();
    grid.current.style.setProperty("--hover", String((event.clientX - left) / width));
  }, []);
  return html`<section class="examples">
    <div class="heading">
      <div class="tabs" role="tablist" aria-label="Examples">${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${name === tab} onClick=${() => setParams({ show: name === "top" ? null : name, x: null })}>${title}${info.examples[name] && html` <small>${info.examples[name].length}</small>`}
        </button>`)}</div>
      <div class="controls">
        <label class="check" title="Hear only where the feature fires (A)">
          <input type="checkbox" checked=${spotlight} onChange=${/** @param {any} e */ (e) => setSpotlight(e.target.checked)} /> <${Icon} name="ear" /> only where it fires</label>
        <label>show <select value=${span_s} onChange=${/** @param {any} e */ (e) => setParams({ span: e.target.value === "2" ? null : e.target.value })}>${SPANS.map((s) => html`<option value=${s} selected=${s === span_s}>${s} s</option>`)}</select>
          </label>
      </div>
    </div>
    <${Problem} error=${error} />
    ${loading && html`<p class="quiet" role="status">Looking…</p>`}
    ${tab === "near_miss" && examples.length > 0 && html`<p class="quiet">Here it might fire, for what is said or for what fires around it, and it is silent: it is choosier than that, or misses something.</p>`}
    ${tab !== "range" && !loading && !error && examples.length === 0 && html`<p class="quiet">${tab === "near_miss" ? "No near misses." : "No examples of this kind."}</p>`}
    ${tab === "range" && html`<${InRange} info=${info} />`}
    <div class="grid" ref=${grid} onPointerMove=${hover} onPointerLeave=${() => grid.current?.style.removeProperty("--hover")}>
      ${examples.map(
        (
          example,
          i,
        ) => html`<${ExampleCard} key=${`${tab} ${i} ${featureAddress(row)}`} example=${example} row=${row} sound=${soundOf(i)}
        active=${i === current} onSelect=${() => select(i)} onLane=${/** @param {import("../parts/lane.js").LaneData} lane */ (lane) => lanes.set(i, lane)} />`,
      )}
    </div></section>`;
}

/** @param {FeatureInfo} info @param {string} tab */
function useExamples(info, tab) {
  const kept = info.examples[tab];
  const lazy = !kept && tab !== "range";
  const url = `/api/atlases/${encodeURIComponent(info.row.atlas)}/features/${info.row.index}/examples?kind=${tab}`;
  const { data, error, loading } = useJson(lazy ? url : null);
  const examples = /** @type {ExampleInfo[]} */ (kept ?? (lazy && !loading ? data : null) ?? []);
  return { examples, error: lazy ? error : null, loading: lazy && loading && !error };
}

/** Frames whose value lies between two bounds. @param {{ info: FeatureInfo }} props */
function InRange({ info: { row, histogram, opposite, opposite_histogram } }) {
  const { params } = here();
  const top = histogram.edges[histogram.edges.length - 1];
  const bottom = opposite_histogram ? -opposite_histogram.edges[opposite_histogram.edges.length - 1] : 0;
  const [low, high] = rangeOf(params) ?? [0, top];
  const below = high <= 0;
  const both = opposite_histogram !== null && params.get("both") === "1";
  const bounds = below ? { low: -high, high: -low } : { low: Math.max(0, low), high };
  const side = both ? "both" : below ? "-" : null;
  const url = address(`/api/atlases/${encodeURIComponent(row.atlas)}/features/${row.index}/range`, {
    ...bounds,
    side,
    sort: params.get("by") === "time" ? "time" : null,
  });
  /** @param {number} from @param {number} to */
  const set = (from, to) => from < to && setRange([from, to]);
  const lane = below && opposite !== null ? { index: opposite, top: -bottom } : { index: row.index, top };
  return html`<div class="bounds range-bounds">value from
      <${NumberField} value=${low} label="Lowest value" onValue=${/** @param {number} typed */ (typed) => set(typed, high)} />
      to <${NumberField} value=${high} label="Highest value" onValue=${/** @param {number} typed */ (typed) => set(low, typed)} />
      <label>order <select onChange=${/** @param {any} e */ (e) => setParams({ by: e.target.value })}>
        <option value="">strongest first</option><option value="time" selected=${params.get("by") === "time"}>in time</option></select></label>
      ${opposite_histogram && html`<label class="check"><input type="checkbox" checked=${both} onChange=${/** @param {any} e */ (e) => setParams({ both: e.target.checked })} /> both signs</label>`}
    </div>
    <p class="quiet">Drag over the histogram to choose a range.</p>
    <${MomentList} url=${url} id=${`range ${featureAddress(row)}`} feature=${featureAddress({ atlas: row.atlas, index: lane.index })} top=${lane.top} nothing="No frame has such a value." />`;
}

/** @param {{ example: ExampleInfo, row: FeatureRow, sound: import("../lib/transport.js").Sound, active: boolean, onSelect: () => void, onLane: (lane: import("../parts/lane.js").LaneData) => void }} props */
function ExampleCard({ example: { clip, time_s, value, decile }, row, sound, active, onSelect, onLane }) {
  const [lane, setLane] = useState(/** @type {import("../parts/lane.js").LaneData | null} */ (null));
  const [table, setTable] = useState(false);
  const address_ = featureAddress(row);
  const keep = (/** @type {import("../parts/lane.js").LaneData} */ loaded) => {
    setLane(loaded);
    onLane(loaded);
  };
  return html`<article class=${`example ${active ? "active" : ""}`} onFocusIn=${onSelect} data-example=${clip.id}>
    <header><${PlayButton} sound=${sound} />
      <span class="value" title="activation at the centre">${strength(value)}</span>
      ${decile !== null && html`<span class="quiet">${decile * 10}–${decile * 10 + 10} %</span>`}
      <span class="text" title=${clip.title}>${clip.title}</span>
      <span class="quiet when">${clip.speaker ?? ""} ${clock(time_s)}</span>
      <button class="icon small" aria-pressed=${table} onClick=${() => setTable(!table)} title="Read as table" aria-label="Read as table">
        <${Icon} name="table" size=${15} /></button>
      <a class="icon small" href=${clipHref(clip, { f: address_ })} title="Open the clip" aria-label="Open the clip">
        <${Icon} name="open" size=${15} /></a>
    </header>
    <${Strip} id=${sound.key} clip=${clip} start_s=${sound.start_s} end_s=${sound.end_s} feature=${address_} top=${row.max} at_s=${time_s} onLane=${keep} />
    ${table && html`<${StripTable} clip=${clip} start_s=${sound.start_s} end_s=${sound.end_s} lane=${lane} feature=${address_} />`}
  </article>`;
}

