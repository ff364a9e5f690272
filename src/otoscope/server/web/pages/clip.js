// One clip: what it sounds like, what the model writes, which features fire when.
import { html, useEffect, useState } from "../lib/dom.js";
import { clipUrl, useJson } from "../lib/api.js";
import { clipHref, clock, decimal, duration, parseSpan, percent, spanText } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, navigate, setParams, usePlace } from "../lib/router.js";
import { transport } from "../lib/transport.js";
import { AudioInput } from "../parts/audio-input.js";
import { Problem } from "../parts/feature-bits.js";
import { Icon } from "../parts/icons.js";
import { PlayButton } from "../parts/play-button.js";
import { RegionLanes, ofAtlases } from "../parts/region.js";
import { Strip, StripTable } from "../parts/strip.js";
import { Tokens } from "../parts/tokens.js";

const MAX_VIEW_S = 30;
const MIN_VIEW_S = 0.2;

/** @param {{ id: string }} props */
export function ClipPage({ id }) {
  const { params } = usePlace();
  const { data, error } = useJson(address(`/api/clips/${encodeURIComponent(id)}`, { corpus: params.get("corpus") }));
  const clip = /** @type {ClipInfo | null} */ (data);
  if (error)
    return html`<main class="page narrow"><h1>${id}</h1><${Problem} error=${error} />
    <${AudioInput} onClip=${/** @param {ClipInfo} made */ (made) => navigate(clipHref(made))} /></main>`;
  if (!clip) return html`<main class="page"><p class="quiet" role="status">Loading ${id}…</p></main>`;
  return html`<${Shown} clip=${clip} params=${params} />`;
}

/** @param {{ clip: ClipInfo, params: URLSearchParams }} props */
function Shown({ clip, params }) {
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const whole = /** @type {[number, number]} */ ([0, Math.min(clip.duration_s, MAX_VIEW_S)]);
  const view = parseSpan(params.get("view")) ?? whole;
  const selection = parseSpan(params.get("t"));
  const atlas = ofAtlases(overview, params.get("atlas"));
  const pinned = (params.get("f") ?? "").split(",").filter(Boolean);
  const sound = {
    key: `clip ${clip.id}`,
    clip,
    start_s: selection?.[0] ?? view[0],
    end_s: selection?.[1] ?? view[1],
    title: clip.title,
  };
  /** @param {number} from @param {number} to */
  const look = (from, to) => {
    const length = Math.min(Math.max(to - from, MIN_VIEW_S), Math.min(clip.duration_s, MAX_VIEW_S));
    const start = Math.min(Math.max(0, from), clip.duration_s - length);
    const all = length >= Math.min(clip.duration_s, MAX_VIEW_S) - 0.01 && start < 0.01;
    setParams({ view: all ? null : spanText([start, start + length]) });
  };
  /** @param {number} factor */
  const zoom = (factor) => {
    const centre = selection ? (selection[0] + selection[1]) / 2 : (view[0] + view[1]) / 2;
    const half = ((view[1] - view[0]) * factor) / 2;
    look(centre - half, centre + half);
  };
  useKeys(
    {
      " ": () => transport.toggle(sound),
      Escape: () => {
        transport.stop();
        setParams({ t: null });
      },
    },
    [clip.id, spanText(view), spanText(selection)],
  );
  useEffect(() => () => transport.stop(), [clip.id]);
  const [table, setTable] = useState(false);
  const move = (view[1] - view[0]) * 0.8;
  const zoomed = view[1] - view[0] < clip.duration_s - 0.01;
  return html`<main class="page clip">
    <header class="clip-head">
      <${PlayButton} sound=${sound} label="the clip" />
      <div><h1>${clip.title}</h1>
        <p class="quiet">${[clip.id !== clip.title && clip.id, clip.corpus, clip.speaker, duration(clip.duration_s)].filter(Boolean).join(" · ")}</p>
          </div>
      <div class="tools">
        <button class="icon" onClick=${() => zoom(0.5)} aria-label="Zoom in" title="Zoom in"><${Icon} name="plus" /></button>
        <button class="icon" onClick=${() => zoom(2)} disabled=${!zoomed} aria-label="Zoom out" title="Zoom out"><${Icon} name="minus" /></button>
        <button class="icon" onClick=${() => look(view[0] - move, view[1] - move)} disabled=${view[0] <= 0} aria-label="Earlier" title="Earlier">
          <${Icon} name="left" /></button>
        <button class="icon" onClick=${() => look(view[0] + move, view[1] + move)} disabled=${view[1] >= clip.duration_s - 0.01} aria-label="Later" title="Later">
          <${Icon} name="right" /></button>
        ${selection && html`<button onClick=${() => look(selection[0], selection[1])}>Zoom to selection</button>`}
        <a class="button" href=${address("/sound", { clip: clip.id, corpus: clip.corpus, t: spanText(selection), atlas: params.get("atlas") })}><${Icon} name="ear" /> Find similar</a>
        <a class="button" href=${clipUrl(clip, "audio")} download=${`${clip.id}.wav`}><${Icon} name="down" /> WAV</a>
        <a class="button primary" href=${address("/edit", { clip: clip.id, corpus: clip.corpus })}><${Icon} name="edit" /> Edit</a>
      </div>
    </header>
    <${Written} clip=${clip} />
    <section class="panel timeline">
      <div class="gutter-row"><span class="gutter quiet">${clock(view[0])}</span>
        <div><${Strip} id=${sound.key} clip=${clip} start_s=${view[0]} end_s=${view[1]} wave melHeight=${150} selection=${selection}
          onSelect=${/** @param {[number, number] | null} chosen */ (chosen) => setParams({ t: spanText(chosen) })} /></div></div>
      <p class="under quiet">
        <span>${selection ? `selected ${clock(selection[0])} – ${clock(selection[1])}` : "click to play from there, drag to select"}</span>
        <button class="link" aria-expanded=${table} onClick=${() => setTable(!table)}>read as table</button></p>
      ${table && html`<${StripTable} clip=${clip} start_s=${view[0]} end_s=${view[1]} lane=${null} />`}
      <${RegionLanes} key=${clip.id} clip=${clip} atlas=${atlas} overview=${overview} pinned=${pinned} view=${view} span=${selection} />
    </section>
    <section class="again">
      <${AudioInput} hint="Another recording" onClip=${/** @param {ClipInfo} made */ (made) => navigate(clipHref(made))} />
      </section>
  </main>`;
}

/** What the model writes. @param {{ clip: ClipInfo }} props */
function Written({ clip }) {
  const { data, error, loading } = useJson(clipUrl(clip, "transcript"));
  const transcript = /** @type {TranscriptInfo | null} */ (data);
  return html`<section class="panel written"><h2>The model writes</h2><${Problem} error=${error} />
    ${loading && html`<p class="quiet" role="status">Listening…</p>`}
    ${
      transcript &&
      html`<${Tokens} tokens=${transcript.tokens} />
      <p class="quiet">${transcript.language ? `language ${transcript.language} · ` : ""}${transcript.avg_log_prob === null ? "" : `mean log p ${decimal(transcript.avg_log_prob, 3)} per token · `}no-speech probability ${percent(transcript.no_speech_prob ?? 0)}
        ${clip.text && ` · said: “${clip.text}”`}</p>`
    }</section>`;
}
