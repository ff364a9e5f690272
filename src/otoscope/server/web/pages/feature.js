// One feature: what it detects, how sure that is, where it fires, how it sounds.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { getJson, useJson } from "../lib/api.js";
import { editText, firstEdit } from "../lib/edits.js";
import { clipHref, clock, count, decimal, featureAddress, featureHref, percent, strength } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { setPreference, usePreference } from "../lib/preferences.js";
import { address, here, navigate, setParams, usePlace } from "../lib/router.js";
import { transport } from "../lib/transport.js";
import { AudioInput } from "../parts/audio-input.js";
import { Chip, F1Bar, Problem } from "../parts/feature-bits.js";
import { Histogram } from "../parts/histogram.js";
import { Icon } from "../parts/icons.js";
import { Notes, notesOf, useNotes } from "../parts/notes.js";
import { PlayButton } from "../parts/play-button.js";
import { Strip, StripTable } from "../parts/strip.js";

const TABS = [
  ["top", "Strongest"],
  ["decile", "Whole range"],
  ["random", "Random"],
];
const SPANS = [1, 2, 4];

/** @param {{ atlas: string, index: number }} props */
export function FeaturePage({ atlas, index }) {
  const { data, error, loading } = useJson(`/api/atlases/${encodeURIComponent(atlas)}/features/${index}`);
  const info = /** @type {FeatureInfo | null} */ (data);
  /** @param {number | null} to */
  const go = (to) => to !== null && to >= 0 && navigate(featureHref({ atlas, index: to }));
  useKeys(
    {
      "[": () => go(info ? info.previous : index - 1),
      "]": () => go(info ? info.next : index + 1),
      r: () => void toRandom(atlas),
    },
    [info, atlas, index],
  );
  if (error)
    return html`<main class="page narrow"><h1>${atlas}:${index}</h1><${Problem} error=${error} /><p><a href="/features">All features</a></p></main>`;
  if (!info || loading)
    return html`<main class="page"><p class="quiet" role="status">Loading ${atlas}:${index}…</p></main>`;
  return html`<${Shown} info=${info} />`;
}

/** Go to a random feature of an atlas that detects something. @param {string} atlas */
async function toRandom(atlas) {
  const seed = Math.floor(Math.random() * 1e6);
  const [row] = await getJson(address("/api/features/random", { n: 1, atlas, min_f1: 0.3, seed })).catch(() => []);
  if (row) navigate(featureHref(row));
}

/** @param {{ info: FeatureInfo }} props */
function Shown({ info }) {
  const { params } = usePlace();
  const { row } = info;
  const tab = TABS.some(([name]) => name === params.get("show")) ? /** @type {string} */ (params.get("show")) : "top";
  const span_s = SPANS.includes(Number(params.get("span"))) ? Number(params.get("span")) : 2;
  const book = useNotes(row);
  const example = info.examples[tab]?.[Number(params.get("x") ?? 0)];
  return html`<main class="page feature">
    <${Head} info=${info} book=${book} />
    <div class="columns">
      <aside>
        ${book.concealed ? html`<${Concealed} />` : html`<${Detects} info=${info} />`}
        <${Notes} key=${featureAddress(row)} book=${book} row=${row} corpus=${info.corpus} moment=${example ? momentOf(example) : null} />
        <section class="panel"><h2>Activations</h2><${Histogram} histogram=${info.histogram} label=${book.concealed ? null : row.label} />
          <dl class="facts">
            <div><dt>fires in</dt><dd>${percent(row.density)} of frames</dd></div>
            <div><dt>highest</dt><dd>${strength(row.max)}</dd></div>
            ${info.mean !== null && html`<div><dt>mean when active</dt><dd>${strength(info.mean)}</dd></div>`}
            <div><dt>read at</dt><dd>${info.site}</dd></div>
            <div><dt>over</dt><dd>${info.corpus}, ${count(info.n_frames)} frames</dd></div>
          </dl></section>
        <section class="panel"><h2>Test on your sound</h2><${TestClip} row=${row} id=${params.get("test")} />
          <${AudioInput} onClip=${/** @param {ClipInfo} clip */ (clip) => setParams({ test: clip.id })} hint="Drop a recording: where does this feature fire?" />
            </section>
      </aside>
      <${Examples} info=${info} tab=${tab} span_s=${span_s} active=${Number(params.get("x") ?? 0)} />
    </div>
  </main>`;
}

/** The moment of an example that a note may point to. @param {ExampleInfo} example */
const momentOf = ({ clip, time_s }) => ({
  clip_id: clip.id,
  start_s: Math.max(0, time_s - 0.1),
  end_s: Math.min(clip.duration_s, time_s + 0.1),
});

function Concealed() {
  return html`<section class="panel"><h2>Detects</h2><p class="quiet">Hidden until you have given the feature a label of your own.</p>
    <p><button class="link" onClick=${() => setPreference("blind", false)}>Show it now</button></p></section>`;
}

/** @param {{ info: FeatureInfo, book: import("../parts/notes.js").NoteBook }} props */
function Head({ info, book }) {
  const { row, previous, next, opposite } = info;
  const own = featureAddress(row);
  const [stars, setStars] = usePreference("stars", /** @type {string[]} */ ([]));
  const [copied, setCopied] = useState(false);
  const kept = book.author === "" ? [] : notesOf(book, "star", book.author);
  const starred = stars.includes(own) || kept.length > 0;
  const star = () => {
    setStars(starred ? stars.filter((item) => item !== own) : [...stars, own]);
    if (starred) for (const note of kept) void book.remove(note);
    else if (book.author !== "") void book.add({ kind: "star" });
  };
  /** @param {number | null} index */
  const go = (index) => index !== null && navigate(featureHref({ atlas: row.atlas, index }));
  const edit = editHref(info);
  const copy = async () => {
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  useKeys({ s: star, e: () => navigate(edit) }, [own, starred, edit, book]);
  return html`<header class="feature-head">
    <div class="title"><h1>
      ${book.concealed ? html`<span class="chip none large">hidden</span>` : html`<${Chip} label=${row.label} kind=${row.label_kind} large />`} <span class="address">${row.atlas}:<b>${row.unit}</b></span>
      </h1>
      ${row.label !== null && !book.concealed && html`<p class="sure">
        <${F1Bar} score=${row} /> <span class="quiet">${decimal(row.f1_low)} – ${decimal(row.f1_high)} on held-out voices</span>
        </p>`}
      ${row.dead && html`<p class="badge">dead: never fires over ${info.corpus}</p>`}
      ${row.density > 0.2 && html`<p class="badge">dense: fires in ${percent(row.density)} of frames</p>`}</div>
    <div class="tools">
      <button class="icon" disabled=${previous === null} onClick=${() => go(previous)} title="Previous feature ([)" aria-label="Previous feature">
        <${Icon} name="left" /></button>
      <button class="icon" onClick=${() => void toRandom(row.atlas)} title="A random feature (R)" aria-label="A random feature">
        <${Icon} name="dice" /></button>
      <button class="icon" disabled=${next === null} onClick=${() => go(next)} title="Next feature (])" aria-label="Next feature">
        <${Icon} name="right" /></button>
      <button class=${`icon ${starred ? "on" : ""}`} onClick=${star} aria-pressed=${starred} title="Star (S)" aria-label="Star">
        <${Icon} name=${starred ? "starred" : "star"} /></button>
      <button class="icon" onClick=${copy} title="Copy link" aria-label="Copy link"><${Icon} name="link" /></button>
      <span class="sr" role="status">${copied ? "Link copied" : ""}</span>
      ${copied && html`<span class="quiet" aria-hidden="true">copied</span>`}
      ${opposite !== null && html`<a class="button" href=${featureHref({ atlas: row.atlas, index: opposite })}>${row.unit.endsWith("−") ? "Positive" : "Negative"} side</a>`}
      <a class="button primary" href=${edit} title="Edit with this feature (E)"><${Icon} name="edit" /> Edit</a>
    </div>
  </header>`;
}

/** @param {FeatureInfo} info @returns {string} the edit page with this feature added everywhere, on its strongest clip */
function editHref({ row, examples }) {
  const clip = examples.top[0]?.clip;
  return address("/edit", { ...(clip ? { clip: clip.id, corpus: clip.corpus } : {}), e: editText(firstEdit(row)) });
}

/** @param {{ info: FeatureInfo }} props */
function Detects({ info: { labels, row } }) {
  return html`<section class="panel"><h2>Detects</h2>
    ${
      labels.length
        ? html`<ol class="scores">${labels.slice(0, 10).map(
            (score) => html`<li>
      <a href=${address("/features", { q: score.kind === "phone" ? `/${score.label}/` : score.label })}>
        <${Chip} label=${score.label} kind=${score.kind} /></a>
      <${F1Bar} score=${score} chance=${score.chance} />
      <span class="quiet detail" title="precision, recall">${Math.round((score.precision ?? 0) * 100)} / ${Math.round((score.recall ?? 0) * 100)} %</span>
        </li>`,
          )}</ol>
      <p class="legend quiet">F1 with 95 % interval; the red tick is chance (labels moved in time). Right: precision / recall.</p>`
        : html`<p class="quiet">${row.dead ? "It never fires." : "No sound it was scored for is detected better than by always firing."}</p>`
    }
  </section>`;
}

/** @param {{ info: FeatureInfo, tab: string, span_s: number, active: number }} props */
function Examples({ info, tab, span_s, active }) {
  const { row } = info;
  const examples = info.examples[tab] ?? [];
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
      <div class="tabs" role="tablist" aria-label="Examples">${TABS.map(([name, title]) => html`<button role="tab" aria-selected=${name === tab} onClick=${() => setParams({ show: name === "top" ? null : name, x: null })}>${title} <small>${info.examples[name]?.length ?? 0}</small>
        </button>`)}</div>
      <div class="controls">
        <label class="check" title="Hear only where the feature fires (A)">
          <input type="checkbox" checked=${spotlight} onChange=${/** @param {any} e */ (e) => setSpotlight(e.target.checked)} /> <${Icon} name="ear" /> only where it fires</label>
        <label>show <select value=${span_s} onChange=${/** @param {any} e */ (e) => setParams({ span: e.target.value === "2" ? null : e.target.value })}>${SPANS.map((s) => html`<option value=${s} selected=${s === span_s}>${s} s</option>`)}</select>
          </label>
      </div>
    </div>
    ${examples.length === 0 && html`<p class="quiet">No examples of this kind.</p>`}
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

/** @param {{ row: FeatureRow, id: string | null }} props */
function TestClip({ row, id }) {
  const { data, error } = useJson(id ? address(`/api/clips/${encodeURIComponent(id)}`) : null);
  const clip = id ? /** @type {ClipInfo | null} */ (data) : null;
  if (error) return html`<${Problem} error=${error} />`;
  if (!clip) return null;
  const end_s = Math.min(clip.duration_s, 12);
  const sound = { key: `test ${clip.id}`, clip, start_s: 0, end_s, title: "your recording" };
  return html`<div class="test"><header>
    <${PlayButton} sound=${sound} /> <span>your recording</span> <a class="icon small" href=${clipHref(clip, { f: featureAddress(row) })} aria-label="Open the clip">
    <${Icon} name="open" size=${15} /></a></header>
    <${Strip} id=${sound.key} clip=${clip} start_s=${0} end_s=${end_s} feature=${featureAddress(row)} top=${row.max} /></div>`;
}
