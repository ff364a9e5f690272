// The pages of an exported atlas: a table of features, one page for each, and where it all comes from.
import { html, render, useEffect } from "./lib/dom.js";
import { getSite, useLoaded } from "./lib/api.js";
import { usePreference } from "./lib/preferences.js";
import { usePlace } from "./lib/place.js";
import { Problem } from "./parts/feature-bits.js";
import { AboutPage } from "./pages/about.js";
import { FeaturePage } from "./pages/feature.js";
import { TablePage } from "./pages/table.js";

const THEMES = { dark: "Dark", light: "Light", "": "As the system" };

function App() {
  const place = usePlace();
  const { data: site, error } = useLoaded(getSite, []);
  const [theme, setTheme] = usePreference("theme", "");
  const feature = /^\/feature\/(\d+)$/.exec(place.path);
  useEffect(() => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }, [theme]);
  useEffect(() => {
    const page = feature ? `${feature[1]} · ` : place.path === "/about" ? "About · " : "";
    if (site) document.title = `${page}${site.name} · Otoscope`;
  }, [site, place.path]);
  /** @param {string} path */
  const current = (path) => (place.path === path ? "page" : null);
  return html`
    <a class="skip" href="#content" onClick=${/** @param {Event} event */ (event) => {
      event.preventDefault();
      document.querySelector("main")?.focus();
    }}>Skip to content</a>
    <header class="top">
      <a class="brand" href="#/" aria-label=${site?.name ?? "Otoscope"}><img src="app/favicon.svg" width="22" height="22" alt="" /><span>${site?.name ?? "Otoscope"}</span></a>
      <nav aria-label="Pages"><a href="#/" aria-current=${current("/")}>Features</a><a href="#/about" aria-current=${current("/about")}>About</a>
        <a href="sounds/LICENCE.txt" title="Who made the sound, and what it may be used for">Licence</a></nav>
      <span class="grow"></span>
      <label class="theme"><span class="sr">Colours</span><select value=${theme} onChange=${/** @param {any} e */ (e) => setTheme(e.target.value)}>
        ${Object.entries(THEMES).map(([name, title]) => html`<option value=${name} selected=${name === theme}>${title}</option>`)}</select></label>
    </header>
    ${
      error
        ? html`<main id="content" class="page narrow" tabindex="-1"><${Problem} error=${error} /></main>`
        : !site
          ? html`<main id="content" class="page"><p class="quiet" role="status">Loading…</p></main>`
          : feature
            ? html`<${FeaturePage} site=${site} feature=${Number(feature[1])} params=${place.params} />`
            : place.path === "/about"
              ? html`<${AboutPage} site=${site} />`
              : html`<${TablePage} site=${site} params=${place.params} />`
    }`;
}

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.textContent = "";
render(html`<${App} />`, root);
