// Clips: every recording of the workspace, searched by text, speaker or sound.
import { html, useRef, useState } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { clipHref, count, duration } from "../lib/format.js";
import { address, navigate, setParams, usePlace } from "../lib/router.js";
import { AudioInput } from "../parts/audio-input.js";
import { Problem } from "../parts/feature-bits.js";
import { PlayButton } from "../parts/play-button.js";

const PAGE = 50;
const MAX_PLAY_S = 60;

export function ClipsPage() {
  const { params } = usePlace();
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const offset = Math.max(0, Number(params.get("offset")) || 0);
  const { data, error } = useJson(
    address("/api/clips", { corpus: params.get("corpus"), q: params.get("q"), offset, limit: PAGE }),
  );
  const found = /** @type {ClipPage | null} */ (data);
  const timer = useRef(0);
  const [initial] = useState(params.get("q") ?? "");
  const search = /** @param {any} event */ (event) => {
    const q = event.target.value.trim();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setParams({ q, offset: null }), 250);
  };
  return html`<main class="page clips"><h1 class="sr">Clips</h1>
    <div class="clips-top">
      <form class="filters" role="search" aria-label="Clips" onSubmit=${/** @param {SubmitEvent} e */ (e) => e.preventDefault()}>
        <label class="field wide"><span class="sr">Search clips</span>
          <input type="search" data-search defaultValue=${initial} onInput=${search} placeholder="a word, a speaker, a sound" autocomplete="off" />
          </label>
        <label class="field"><span>Corpus</span>
          <select onChange=${/** @param {any} e */ (e) => setParams({ corpus: e.target.value, offset: null }, { replace: false })}>
          <option value="">all</option>${["uploads", ...(overview?.corpora ?? []).map(({ name }) => name)].map((name) => html`<option value=${name} selected=${name === params.get("corpus")}>${name}</option>`)}</select>
            </label>
      </form>
      <${AudioInput} onClip=${/** @param {ClipInfo} clip */ (clip) => navigate(clipHref(clip))} />
    </div>
    <${Problem} error=${error} />
    ${
      found &&
      html`<p class="count" role="status">${count(found.total)} ${found.total === 1 ? "clip" : "clips"}</p>
      <ul class="clip-list">${found.clips.map(
        (clip) => html`<li key=${`${clip.corpus} ${clip.id}`}>
        <${PlayButton} sound=${{ key: `list ${clip.corpus} ${clip.id}`, clip, start_s: 0, end_s: Math.min(clip.duration_s, MAX_PLAY_S), title: clip.title }} />
        <a href=${clipHref(clip)}><span class="text">${clip.title}</span>
          <span class="quiet">${[clip.speaker, clip.corpus, clip.id].filter(Boolean).join(" · ")}</span></a>
        <span class="quiet">${duration(clip.duration_s)}</span></li>`,
      )}</ul>
      ${
        found.total > PAGE &&
        html`<nav class="pager" aria-label="Pages of clips">
        <button disabled=${offset === 0} onClick=${() => setParams({ offset: Math.max(0, offset - PAGE) || null }, { replace: false })}>Previous</button>
        <span class="quiet">${count(offset + 1)} – ${count(Math.min(found.total, offset + PAGE))}</span>
        <button disabled=${offset + PAGE >= found.total} onClick=${() => setParams({ offset: offset + PAGE }, { replace: false })}>Next</button>
          </nav>`
      }`
    }
  </main>`;
}
