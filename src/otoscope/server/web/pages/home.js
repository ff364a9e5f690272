// Home: what is in this workspace, and three ways in: search a sound, bring a sound, meet a feature.
import { html, useState } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { clipHref, count, duration, featureAddress, featureHref, labelText } from "../lib/format.js";
import { address, navigate } from "../lib/router.js";
import { AudioInput } from "../parts/audio-input.js";
import { Chip, F1Bar, Problem } from "../parts/feature-bits.js";
import { Icon } from "../parts/icons.js";
import { ModelDiagram } from "../parts/model-diagram.js";
import { PlayButton } from "../parts/play-button.js";
import { Strip } from "../parts/strip.js";

const GOOD_F1 = 0.7;
const MAX_LABELS = 80;
const KIND_TITLES = { phone: "Phones", sound_class: "Sounds", word: "Words" };

export function HomePage() {
  const { data, error } = useJson("/api/workspace");
  if (error) return html`<main class="page"><${Problem} error=${error} /></main>`;
  const overview = /** @type {Overview | null} */ (data);
  return html`<main class="page home">
    <section class="hero">
      <div class="find">
        <h1>What does a speech model hear?</h1>
        <p class="lead">Search a sound. See the moments that excite each feature, hear them, and change them.</p>
        <${Search} labels=${overview?.labels ?? []} />
      </div>
      <div class="bring"><h2>Your own sound</h2>
        <${AudioInput} onClip=${/** @param {ClipInfo} clip */ (clip) => navigate(clipHref(clip))} /></div>
    </section>
    ${
      overview
        ? html`<${Numbers} overview=${overview} />
      <section class="panel"><h2>${overview.model.name} <small>${modelLine(overview.model)}</small></h2>
        <${ModelDiagram} overview=${overview} /></section>
      <${RandomFeatures} />
      <${Labels} labels=${overview.labels} />`
        : html`<p class="quiet" role="status">Loading the model…</p>`
    }
  </main>`;
}

/** @param {ModelInfo} model */
const modelLine = (model) =>
  `${model.n_layers} encoder layers · width ${model.d_model} · ${model.n_heads} heads · ${model.window_s} s window · ${model.n_mels ? `${model.n_mels} mel bands` : "hears samples"}`;

/** @param {{ labels: LabelCount[] }} props */
function Search({ labels }) {
  const submit = /** @param {SubmitEvent} event */ (event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (
      /** @type {HTMLFormElement} */ (event.target).elements.namedItem("q")
    );
    navigate(address("/features", { q: field.value.trim() }));
  };
  const hints = suggestions(labels);
  return html`<form class="search" role="search" onSubmit=${submit}>
      <input name="q" type="search" data-search placeholder="a sound, a word or a number" aria-label="Search features"
        list="sounds" autocomplete="off" />
      <button class="primary">Search</button>
      <datalist id="sounds">${labels.slice(0, 300).map(({ label, kind }) => html`<option value=${label}>${kind}</option>`)}</datalist>
    </form>
    <p class="try">${hints.length > 0 && html`try `}${hints.map(
      ({ label, kind }) => html`<a class=${`chip kind-${kind}`}
      href=${address("/features", { q: kind === "phone" ? `/${label}/` : label })}>${labelText(label, kind)}</a> `,
    )}</p>`;
}

/** The best detected sounds of each kind, and "m" if there is one. @param {LabelCount[]} labels */
function suggestions(labels) {
  const known = labels.filter(({ best_f1 }) => best_f1 !== null);
  const of = /** @param {string} kind @param {number} n */ (kind, n) =>
    known.filter((item) => item.kind === kind).slice(0, n);
  const m = known.filter((item) => item.kind === "phone" && item.label === "m");
  return [...new Set([...m, ...of("phone", 2), ...of("word", 2), ...of("sound_class", 2)])];
}

/** @param {{ overview: Overview }} props */
function Numbers({ overview: { atlases, corpora, labels } }) {
  const total = /** @param {(atlas: AtlasSummary) => number} pick */ (pick) =>
    atlases.reduce((sum, atlas) => sum + pick(atlas), 0);
  const phones = labels.filter(({ kind }) => kind === "phone");
  const found = phones.filter(({ best_f1 }) => (best_f1 ?? 0) >= GOOD_F1);
  const facts = [
    [
      count(total((a) => a.n_alive)),
      "features that fire",
      `in ${atlases.length} ${atlases.length === 1 ? "atlas" : "atlases"}`,
    ],
    [count(total((a) => a.n_labelled)), "named after a sound", "on voices held out"],
    ...(phones.length
      ? [[`${found.length} of ${phones.length}`, "phones detected", `by one feature with F1 ≥ ${GOOD_F1}`]]
      : []),
    [
      duration(corpora.reduce((sum, c) => sum + c.duration_s, 0)),
      "of sound",
      `${count(corpora.reduce((sum, c) => sum + c.n_clips, 0))} clips: ${corpora.map((c) => c.name).join(", ")}`,
    ],
  ];
  return html`<dl class="numbers">${facts.map(([value, what, more]) => html`<div><dd>${value}</dd>
    <dt>${what}<small>${more}</small></dt></div>`)}</dl>`;
}

function RandomFeatures() {
  const [seed, setSeed] = useState(() => Math.floor(Math.random() * 1e6));
  const { data, error } = useJson(`/api/features/random?n=6&seed=${seed}`);
  const rows = /** @type {FeatureRow[] | null} */ (data);
  if (rows && !rows.length) return null;
  return html`<section><div class="heading"><h2>Strong features</h2>
      <button class="quiet-button" onClick=${() => setSeed(seed + 1)}><${Icon} name="dice" /> Others</button></div>
    <${Problem} error=${error} />
    <div class="cards">${(rows ?? []).map((row) => html`<${FeatureCard} key=${featureAddress(row)} row=${row} />`)}</div></section>`;
}

/** @param {{ row: FeatureRow }} props */
function FeatureCard({ row }) {
  const { data } = useJson(`/api/atlases/${encodeURIComponent(row.atlas)}/features/${row.index}`);
  const example = /** @type {FeatureInfo | null} */ (data)?.examples.top[0];
  const id = `card ${featureAddress(row)}`;
  return html`<article class="card">
    <header><a class="cover" href=${featureHref(row)}><${Chip} label=${row.label} kind=${row.label_kind} large /></a>
      <${F1Bar} score=${row} /></header>
    ${
      example
        ? html`<div class="card-strip"><${Strip} id=${id} clip=${example.clip} start_s=${example.time_s - 0.8} end_s=${example.time_s + 0.8}
      feature=${featureAddress(row)} top=${row.max} melHeight=${64} compact /></div>`
        : html`<div class="card-strip loading" />`
    }
    <footer>${example && html`<${PlayButton} sound=${{ key: id, clip: example.clip, start_s: example.time_s - 0.8, end_s: example.time_s + 0.8, title: `${row.label ?? "feature"} in “${example.clip.title}”` }} />`}
      <a href=${featureHref(row)}>${row.atlas}:${row.unit}</a></footer>
  </article>`;
}

/** The sounds that features are named after, kind by kind; those that few look for fold away. @param {{ labels: LabelCount[] }} props */
function Labels({ labels }) {
  const kinds = [...new Set(labels.map(({ kind }) => kind))].sort((a, b) => rank(a) - rank(b));
  const of = /** @param {string} kind */ (kind) => html`<${LabelsOfKind} key=${kind} kind=${kind} labels=${labels.filter((item) => item.kind === kind)} />`;
  const others = kinds.filter((kind) => !(kind in KIND_TITLES));
  return html`${kinds.filter((kind) => kind in KIND_TITLES).map(of)}
    ${others.length > 0 && html`<details class="more-labels"><summary>${others.map((kind) => kind.replaceAll("_", " ")).join(", ")}</summary>${others.map(of)}</details>`}`;
}

/** @param {{ kind: string, labels: LabelCount[] }} props */
function LabelsOfKind({ kind, labels }) {
  return html`<section><h2>${/** @type {Record<string, string>} */ (KIND_TITLES)[kind] ?? capital(kind)}
      <small>the bar is the F1 of the best feature${labels.length > MAX_LABELS ? `; the best ${MAX_LABELS} of ${labels.length}` : ""}</small></h2>
    <ul class="labels">${labels.slice(0, MAX_LABELS).map(
      (item) => html`<li>
      <a class=${`label kind-${kind}`} href=${address("/features", { q: kind === "phone" ? `/${item.label}/` : item.label, kind })}
        title=${`best F1 ${(item.best_f1 ?? 0).toFixed(2)}, ${item.n_features} features named`}>
        <span class="name">${item.label.replaceAll("_", " ")}</span><span class="level">
          <span style=${{ width: `${(item.best_f1 ?? 0) * 100}%` }} /></span></a></li>`,
    )}</ul></section>`;
}

/** @param {string} kind */
const capital = (kind) => kind[0].toUpperCase() + kind.slice(1).replaceAll("_", " ");

/** @param {string} kind */
const rank = (kind) => (kind in KIND_TITLES ? Object.keys(KIND_TITLES).indexOf(kind) : 99);
