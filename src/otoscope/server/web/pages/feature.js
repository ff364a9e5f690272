// One feature: what it detects, how sure that is, where it fires, how it sounds.
import { html, useState } from "../lib/dom.js";
import { getJson, useJson } from "../lib/api.js";
import { editText, firstEdit } from "../lib/edits.js";
import { clipHref, count, decimal, featureAddress, featureHref, percent, strength } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { setPreference, usePreference } from "../lib/preferences.js";
import { address, navigate, setParams, usePlace } from "../lib/router.js";
import { AudioInput } from "../parts/audio-input.js";
import { Acoustics, Detects, Profile } from "../parts/evidence.js";
import { Examples, SPANS, rangeOf, setRange, tabOf } from "../parts/examples.js";
import { Chip, F1Bar, Problem } from "../parts/feature-bits.js";
import { Histogram } from "../parts/histogram.js";
import { Icon } from "../parts/icons.js";
import { Rungs } from "../parts/interpretation.js";
import { Notes, notesOf, useNotes } from "../parts/notes.js";
import { PlayButton } from "../parts/play-button.js";
import { Relatives } from "../parts/related.js";
import { Strip } from "../parts/strip.js";

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
  const tab = tabOf(params);
  const span_s = SPANS.includes(Number(params.get("span"))) ? Number(params.get("span")) : 2;
  const book = useNotes(row);
  const example = info.examples[tab]?.[Number(params.get("x") ?? 0)];
  return html`<main class="page feature">
    <${Head} info=${info} book=${book} />
    <div class="columns">
      <aside>
        ${book.concealed ? html`<${Concealed} />` : html`<${Detects} info=${info} />`}
        ${!book.concealed && !row.dead && html`<${Interpretation} key=${`in words ${featureAddress(row)}`} row=${row} />`}
        <section class="panel"><h2>Activations ${!row.dead && html`<small>drag to choose values</small>`}</h2><${Activations} info=${info} concealed=${book.concealed} range=${rangeOf(params)} />
          <dl class="facts">
            <div><dt>fires in</dt><dd>${percent(row.density)} of frames</dd></div>
            <div><dt>highest</dt><dd>${strength(row.max)}</dd></div>
            ${info.mean !== null && html`<div><dt>mean when active</dt><dd>${strength(info.mean)}</dd></div>`}
            <div><dt>read at</dt><dd>${info.site}</dd></div>
            <div><dt>over</dt><dd>${info.corpus}, ${count(info.n_frames)} frames</dd></div>
          </dl>
          <${Profile} counts=${info.profile} />
          ${info.acoustics.length > 0 && !book.concealed && html`<${Acoustics} rows=${info.acoustics} />`}</section>
        <${Notes} key=${featureAddress(row)} book=${book} row=${row} corpus=${info.corpus} moment=${example ? momentOf(example) : null} />
        <section class="panel"><h2>Test on your sound</h2><${TestClip} row=${row} id=${params.get("test")} />
          <${AudioInput} onClip=${/** @param {ClipInfo} clip */ (clip) => setParams({ test: clip.id })} hint="Drop a recording: where does this feature fire?" />
            </section>
        <${Relatives} info=${info} concealed=${book.concealed} />
      </aside>
      <${Examples} info=${info} tab=${tab} span_s=${span_s} active=${Number(params.get("x") ?? 0)} />
    </div>
  </main>`;
}

/** The histogram, by class where the atlas knows, and its brush. @param {{ info: FeatureInfo, concealed: boolean, range: [number, number] | null }} props */
function Activations({ info: { row, histogram, opposite_histogram }, concealed, range }) {
  const url = `/api/atlases/${encodeURIComponent(row.atlas)}/features/${row.index}/stacks`;
  const { data, loading } = useJson(row.dead ? null : url);
  const stacks = /** @type {Stack[] | null} */ (loading ? null : data);
  return html`<${Histogram} histogram=${histogram} opposite=${opposite_histogram} stacks=${concealed ? [] : (stacks ?? [])}
    range=${range} onRange=${row.dead ? undefined : setRange} />`;
}

/** What `otoscope interpret` has found, or the command that finds it. @param {{ row: FeatureRow }} props */
function Interpretation({ row }) {
  const { data, error } = useJson(`/api/atlases/${encodeURIComponent(row.atlas)}/features/${row.index}/interpretation`);
  const found = /** @type {InterpretationInfo | null} */ (data);
  if (!found && !error) return null;
  const told = found !== null && (found.rungs.length > 0 || found.note !== "");
  return html`<section class="panel"><h2>Interpretation ${told && found.written && html`<small>${found.written.slice(0, 10)}</small>`}</h2>
    <${Problem} error=${error} />
    ${told && html`<${Rungs} rungs=${found.rungs} note=${found.note} />`}
    ${found && !told && html`<p class="quiet">None yet: run <code>${found.command}</code></p>`}
    ${found?.problems.map((problem) => html`<p class="problem small">${problem}</p>`)}</section>`;
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
      ${row.nature && !book.concealed && row.nature !== "unlabelled" && html`<span class="badge nature">${row.nature}</span>`}</h1>
      ${row.label !== null && !book.concealed && html`<p class="sure">
        <${F1Bar} score=${row} /> <span class="quiet">${decimal(row.f1_low)} – ${decimal(row.f1_high)} on held-out voices</span>
        </p>`}
      ${row.sentence && !book.concealed && html`<p class="sentence">${row.sentence}</p>`}
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
