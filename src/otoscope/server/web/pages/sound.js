// By sound: brush a stretch of any clip, or of your own recording; what fires there, and where else it sounds like that.
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { clipUrl, useJson } from "../lib/api.js";
import { clipHref, count, duration, parseSpan, spanText } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, navigate, setParams, usePlace } from "../lib/router.js";
import { transport } from "../lib/transport.js";
import { AudioInput } from "../parts/audio-input.js";
import { Problem } from "../parts/feature-bits.js";
import { MomentCard } from "../parts/moments.js";
import { NumberField } from "../parts/number-field.js";
import { PlayButton } from "../parts/play-button.js";
import { RegionLanes, ofAtlases, spanParams, useSettled } from "../parts/region.js";
import { Strip } from "../parts/strip.js";

const MAX_VIEW_S = 30;
const STEP_S = 0.02;
const N_SIMILAR = 12;

/** @param {ClipInfo} clip */
const choose = (clip) => setParams({ clip: clip.id, corpus: clip.corpus, t: null }, { replace: false });

export function SoundPage() {
  const { params } = usePlace();
  const id = params.get("clip");
  const { data, error } = useJson(
    id ? address(`/api/clips/${encodeURIComponent(id)}`, { corpus: params.get("corpus") }) : null,
  );
  const clip = /** @type {ClipInfo | null} */ (id && data?.id === id ? data : null);
  return html`<main class="page sound">
    <header><h1>Search by sound</h1>
      <p class="quiet">Choose a clip or bring your own, then drag over the stretch you mean.</p></header>
    ${id && error && html`<${Problem} error=${error} />`}
    ${
      id && !error
        ? clip
          ? html`<${Brushed} key=${clip.id} clip=${clip} params=${params} />`
          : html`<p class="quiet" role="status">Loading ${id}…</p>`
        : html`<${Chooser} />`
    }
  </main>`;
}

function Chooser() {
  const [q, setQ] = useState("");
  const timer = useRef(0);
  const { data, error } = useJson(address("/api/clips", { q, limit: 12 }));
  const found = /** @type {ClipPage | null} */ (data);
  const search = /** @param {any} event */ (event) => {
    const text = event.target.value.trim();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQ(text), 250);
  };
  return html`<section class="panel choose">
    <div class="chooser"><h2>A clip</h2>
      <input type="search" data-search onInput=${search} placeholder="a word, a speaker, a sound" aria-label="Search clips" autocomplete="off" />
      <${Problem} error=${error} />
      <ul class="clip-list">${(found?.clips ?? []).map(
        (clip) => html`<li key=${`${clip.corpus} ${clip.id}`}>
          <${PlayButton} sound=${{ key: `choose ${clip.id}`, clip, start_s: 0, end_s: Math.min(clip.duration_s, MAX_VIEW_S), title: clip.title }} />
          <a href=${address("/sound", { clip: clip.id, corpus: clip.corpus })}><span class="text">${clip.title}</span>
            <span class="quiet">${[clip.speaker, clip.corpus].filter(Boolean).join(" · ")}</span></a>
          <span class="quiet">${duration(clip.duration_s)}</span></li>`,
      )}</ul>
      ${found && found.total > found.clips.length && html`<p class="quiet">${count(found.total)} clips; type to narrow them down.</p>`}
      ${found && !found.total && html`<p class="quiet">No clip matches.</p>`}
    </div>
    <div><h2>Your own sound</h2><${AudioInput} onClip=${choose} /></div>
  </section>`;
}

/** @param {{ clip: ClipInfo, params: URLSearchParams }} props */
function Brushed({ clip, params }) {
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const atlas = ofAtlases(overview, params.get("atlas"));
  const span = parseSpan(params.get("t"));
  const start_s = span && span[1] > MAX_VIEW_S ? Math.max(0, (span[0] + span[1] - MAX_VIEW_S) / 2) : 0;
  const view = /** @type {[number, number]} */ ([start_s, Math.min(clip.duration_s, start_s + MAX_VIEW_S)]);
  const sound = {
    key: `clip ${clip.id}`,
    clip,
    start_s: span?.[0] ?? view[0],
    end_s: span?.[1] ?? view[1],
    title: clip.title,
  };
  const select = (/** @type {[number, number] | null} */ chosen) => setParams({ t: spanText(chosen) });
  useKeys({ " ": () => transport.toggle(sound), Escape: () => select(null) }, [clip.id, spanText(span)]);
  useEffect(() => () => transport.stop(), [clip.id]);
  return html`<section class="panel timeline">
      <div class="strip-head"><${PlayButton} sound=${sound} label=${span ? "the selection" : "the clip"} />
        <a class="what" href=${clipHref(clip)}>${clip.title}</a>
        <${Bounds} clip=${clip} span=${span} onChange=${select} />
        <button onClick=${() => navigate(address("/sound", { atlas: params.get("atlas") }))}>Another sound</button></div>
      <div class="gutter-row"><span class="gutter" />
        <${Strip} id=${sound.key} clip=${clip} start_s=${view[0]} end_s=${view[1]} wave melHeight=${130} selection=${span} onSelect=${select} /></div>
      <${RegionLanes} clip=${clip} atlas=${atlas} overview=${overview} pinned=${[]} view=${view} span=${span} />
    </section>
    ${atlas && html`<${Similar} clip=${clip} atlas=${atlas} span=${span} />`}`;
}

/** The selection as two numbers, for those who do not drag. @param {{ clip: ClipInfo, span: [number, number] | null, onChange: (span: [number, number] | null) => void }} props */
function Bounds({ clip, span, onChange }) {
  const [from, to] = span ?? [0, clip.duration_s];
  /** @param {number} start @param {number} end */
  const set = (start, end) => start < end && onChange([Math.max(0, start), Math.min(clip.duration_s, end)]);
  return html`<span class="bounds">from <${NumberField} value=${from} digits=${2} step=${STEP_S} min=${0} max=${clip.duration_s} label="Start of the stretch in seconds"
      onValue=${/** @param {number} typed */ (typed) => set(typed, to)} />
    to <${NumberField} value=${to} digits=${2} step=${STEP_S} min=${0} max=${clip.duration_s} label="End of the stretch in seconds"
      onValue=${/** @param {number} typed */ (typed) => set(from, typed)} /> s</span>`;
}

/** @param {{ clip: ClipInfo, atlas: string, span: [number, number] | null }} props */
function Similar({ clip, atlas, span }) {
  const stretch = useSettled(JSON.stringify(spanParams(clip, span)));
  const url = clipUrl(clip, "similar", { atlas, top: N_SIMILAR, ...JSON.parse(stretch) });
  const { data, error, loading } = useJson(url);
  const moments = /** @type {MomentInfo[] | null} */ (data);
  return html`<section class="similar" aria-busy=${loading}><div class="heading"><h2>Where else it sounds like that <small>other clips of the corpus, by what fires in them</small></h2></div>
    <${Problem} error=${error} />
    ${!error && !moments && html`<p class="quiet" role="status">Comparing with the whole corpus…</p>`}
    ${!error && moments?.length === 0 && html`<p class="quiet">No other moment resembles this one.</p>`}
    <div class=${`grid ${loading ? "stale" : ""}`}>${(moments ?? []).map(
      (moment, i) => html`<${MomentCard} key=${`${moment.clip.id} ${moment.start_s}`} moment=${moment} id=${`similar ${i} ${moment.clip.id}`} />`,
    )}</div></section>`;
}
