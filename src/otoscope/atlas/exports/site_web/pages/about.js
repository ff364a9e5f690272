// What was exported, what its figures mean, and who made the sound.
import { html } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";

/** @param {{ site: import("../lib/api.js").Site }} props */
export function AboutPage({ site }) {
  const { credits, licence } = site;
  return html`<main id="content" class="page narrow" tabindex="-1">
    <h1>About these pages</h1>
    <section class="panel"><h2>What is shown</h2>
      <dl class="facts">
        <div><dt>model</dt><dd>${site.model}</dd></div>
        <div><dt>read at</dt><dd>${site.site}</dd></div>
        <div><dt>dictionary</dt><dd>${site.dictionary.name} (${site.dictionary.kind})</dd></div>
        <div><dt>over</dt><dd>${site.corpus}, ${count(site.n_clips)} clips, ${duration(site.n_frames * site.frame_s)}</dd></div>
        <div><dt>features</dt><dd>${count(site.n_features)} of ${count(site.n_in_atlas)}</dd></div>
      </dl></section>
    <section class="panel prose"><h2>What the figures mean</h2>
      <p>A feature is one direction in what the model computes. It is named after the sound, word or kind of sound that it
        detects best. The name and its threshold are chosen on one half of the voices; F1 and its 95 % interval are measured
        on the other half, and a name is given only where moving the labels in time seldom does as well (false-discovery rate
        of 5 %). Chance is the mean F1 with moved labels.</p>
      <p>Density is the share of all frames in which a feature fires. The pictures are the log-mel spectrogram that the
        model hears; the curve below is the activation.</p></section>
    <section class="panel prose"><h2>Sound</h2>
      ${licence && html`<p class="licence">${licence}</p>`}
      ${credits.length > 0 && html`<ul>${credits.map((credit) => html`<li>${credit}</li>`)}</ul>`}
      ${!licence && !credits.length && html`<p>The corpus does not say who made the sound or what it may be used for.</p>`}
      <p><a href="sounds/LICENCE.txt">Licence and attribution, recording by recording</a></p>
      ${!site.audio && html`<p>The sound itself was not exported.</p>`}</section>
    <p class="quiet">Made with Otoscope ${site.otoscope}. The libraries in use, and their licences, are in <code>app/vendor</code>.</p>
  </main>`;
}
