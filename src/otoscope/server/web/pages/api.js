// The HTTP API as the server describes it.
import { html } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { Problem } from "../parts/feature-bits.js";

/** @typedef {{ name: string, in: string, required?: boolean, description?: string, schema?: any }} Parameter */

export function ApiPage() {
  const { data, error } = useJson("/api/openapi.json");
  return html`<main class="page narrow api"><h1>HTTP API</h1>
    <p>Everything these pages show comes from this API, on this machine only. The full description is <a href="/api/openapi.json" target="_blank" rel="noopener">openapi.json</a>.
      Errors are JSON with one sentence under <code>error</code>.</p>
    <${Problem} error=${error} />
    ${
      data &&
      Object.entries(data.paths).flatMap(([path, methods]) =>
        Object.entries(/** @type {Record<string, any>} */ (methods)).map(
          ([method, { description, summary, parameters = [] }]) => html`<section class="panel endpoint">
        <h2><span class="method">${method.toUpperCase()}</span> <code>${path}</code></h2><p>${description ?? summary}</p>
        ${
          parameters.length > 0 &&
          html`<table class="plain"><tbody>${parameters.map(
            (/** @type {Parameter} */ { name, description: what, required, schema }) => html`<tr>
          <td><code>${name}</code></td><td>${required ? "required" : ""}</td>
            <td>${what ?? schema?.description ?? schema?.enum?.join(", ") ?? schema?.type ?? ""}</td></tr>`,
          )}</tbody></table>`
        }</section>`,
        ),
      )
    }
  </main>`;
}
