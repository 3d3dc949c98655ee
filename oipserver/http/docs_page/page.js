// Shows openapi.json and sends its examples.  Whatever comes from the server becomes text, never markup.
"use strict";

const METHODS = ["get", "post", "put", "delete"];
const SHOWN = 100000;
// Of this page alone: it is gone when the page is.
let key = "";
let openapi = null;

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  return fetch(path, { ...options, headers, credentials: "same-origin", cache: "no-store" });
}

// The page is at <wherever>/v2/docs, so that paths of the document are taken from two levels up.
const reach = (path) => new URL(`..${path}`, document.baseURI).href;

async function load() {
  const answer = await ask("openapi.json");
  byId("access").hidden = ![401, 403].includes(answer.status) && !key;
  if (!answer.ok) {
    byId("state").textContent = await told(answer);
    return;
  }
  openapi = await answer.json();
  byId("title").textContent = `${openapi.info.title} ${openapi.info.version}`;
  const ready = await ask("health/ready");
  byId("state").textContent = ready.ok ? "ready" : await told(ready);
  listModels();
  show();
}

async function told(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

// --- what there is --------------------------------------------------------------------------------------

function operations(wanted) {
  return Object.entries(openapi.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item)
      .map((method) => ({ path, method, ...item[method] }))
      .filter((operation) => wanted(operation.path)));
}

const modelOf = (path) => {
  const [, v2, models, name] = path.split("/");
  return v2 === "v2" && models === "models" && `/v2/models/${name}/infer` in openapi.paths ? name : null;
};

const models = () => [...new Set(Object.keys(openapi.paths).map(modelOf).filter(Boolean))];

function listModels() {
  const link = (href, text) => element("li", {}, element("a", { href }, text));
  byId("models").replaceChildren(
    link("#", "Server"),
    ...models().map((name) => link(`#${encodeURIComponent(name)}`, name)));
}

// --- what is shown --------------------------------------------------------------------------------------

function show() {
  if (!openapi) return;
  const wanted = decodeURIComponent(location.hash.slice(1));
  const model = models().includes(wanted) ? wanted : null;
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.getAttribute("href") === (model ? `#${encodeURIComponent(model)}` : "#");
    if (current) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = model ? `${model} – ${openapi.info.title}` : openapi.info.title;
  if (model) showModel(model); else showServer();
}

function showServer() {
  byId("main").replaceChildren(
    element("h2", {}, "Server"),
    element("p", { class: "faint" }, `Models that are loaded: ${models().length}. `,
      element("a", { href: "openapi.json" }, "OpenAPI document")),
    element("h3", {}, "Routes"),
    ...operations((path) => modelOf(path) === null).map(routeOf));
}

async function showModel(name) {
  const main = byId("main");
  const about = element("div");
  main.replaceChildren(
    element("h2", {}, name),
    about,
    element("h3", {}, "Routes"),
    ...inferFirst(operations((path) => modelOf(path) === name)).map(routeOf));
  main.querySelector("details").open = true;
  const answer = await ask(`models/${encodeURIComponent(name)}`);
  if (!answer.ok) {
    about.append(element("p", { class: "bad" }, await told(answer)));
    return;
  }
  const metadata = await answer.json();
  const more = metadata.parameters || {};
  about.append(
    element("p", { class: "faint" }, `${metadata.platform}, version ${metadata.versions.join(", ")}. `,
      element("a", { href: `models/${encodeURIComponent(name)}/openapi.json` }, "OpenAPI document")),
    ...tensors("Inputs", metadata.inputs, rules(name)),
    ...tensors("Inputs by name, in place of those", more.named_inputs, rules(name)),
    ...tensors("Outputs", metadata.outputs, {}),
    ...tensors("Outputs on request", more.optional_outputs, {}));
}

function inferFirst(list) {
  const infers = (operation) => operation.path.endsWith("/infer");
  return [...list.filter(infers), ...list.filter((operation) => !infers(operation))];
}

function tensors(title, list, limits) {
  if (!list || !list.length) return [];
  const ruled = list.some((tensor) => limits[tensor.name]);
  const row = (cell, texts) => element("tr", {}, ...texts.map((text) => element(cell, {}, text)));
  const table = element("table", {},
    element("thead", {}, row("th", ["Name", "Datatype", "Shape", ...(ruled ? ["Values"] : [])])),
    element("tbody", {}, ...list.map((tensor) => row("td", [
      tensor.name, tensor.datatype, `[${tensor.shape.map((size) => (size < 0 ? "any" : size)).join(", ")}]`,
      ...(ruled ? [limits[tensor.name] || ""] : [])]))));
  return [element("h3", {}, title), element("div", { class: "scroll" }, table)];
}

// --- what values may be ---------------------------------------------------------------------------------

function resolved(schema) {
  return schema && schema.$ref ? openapi.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function rules(model) {
  const body = openapi.paths[`/v2/models/${model}/infer`].post.requestBody.content["application/json"];
  const inputs = resolved(body.schema).properties.inputs;
  const found = {};
  for (const way of inputs.anyOf || [inputs]) {
    for (const item of (way.items && (way.items.anyOf || [way.items])) || []) {
      const name = item.properties.name.const ?? item.properties.name.default;
      found[name] = rule(item.properties.data);
    }
  }
  return found;
}

function rule(data) {
  const value = (data.anyOf ? data.anyOf[0] : data).items;
  if (value.enum) return `one of ${value.enum.slice(0, 20).map(String).join(", ")}${value.enum.length > 20 ? " …" : ""}`;
  if (value.description) return value.description.toLowerCase().replace("utf", "UTF").replace(/\.$/, "");
  // The limits of the datatype go without saying.
  const plain = (limit) => Math.abs(limit) < 2 ** 31 && ![127, -128, 255, 32767, -32768, 65535].includes(limit);
  const said = [["at least", value.minimum], ["at most", value.maximum]]
    .filter(([, limit]) => limit !== undefined && plain(limit) && !(limit === 0 && value.type === "integer"));
  return said.map(([words, limit]) => `${words} ${limit}`).join(", ");
}

// --- a route, and its answer ----------------------------------------------------------------------------

function routeOf(operation) {
  const { path, method, summary, requestBody } = operation;
  const inside = element("div");
  const route = element("details", { "data-path": path },
    element("summary", {},
      element("span", { class: "method" }, method.toUpperCase()),
      element("code", {}, path),
      element("span", { class: "faint" }, summary || "")),
    inside);
  route.addEventListener("toggle", () => {
    if (route.open && !inside.hasChildNodes()) inside.append(form(path, method, requestBody));
  });
  return route;
}

function form(path, method, requestBody) {
  const made = element("form");
  const fields = {};
  for (const [, name] of path.matchAll(/\{(\w+)\}/g)) {
    fields[name] = element("input", { required: "", autocomplete: "off" });
    made.append(element("label", {}, name, fields[name]));
  }
  const [type, body] = Object.entries((requestBody && requestBody.content) || {})[0] || [];
  const text = element("textarea", { rows: 12, spellcheck: "false" });
  if (type) {
    text.value = body.example ? readable(body.example) : "";
    text.rows = Math.min(24, Math.max(4, text.value.split("\n").length));
    made.append(element("label", {}, `Body (${type})`, text));
  }
  const send = element("button", {}, "Send");
  const answer = element("div", { class: "answer", "aria-live": "polite" });
  made.append(send, answer);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    const target = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(fields[name].value));
    const options = { method: method.toUpperCase() };
    if (type && text.value.trim()) Object.assign(options, { body: text.value, headers: { "Content-Type": type } });
    answer.replaceChildren(...await sent(reach(target), options));
    send.disabled = false;
  });
  return made;
}

async function sent(url, options) {
  const start = performance.now();
  try {
    const answer = await ask(url, options);
    const body = await answer.text();
    const took = `${(performance.now() - start).toFixed(1)} ms`;
    const said = [took, answer.headers.get("server-timing"), `request ${answer.headers.get("x-request-id")}`];
    return [
      element("p", {},
        element("span", { class: answer.ok ? "good" : "bad" }, `${answer.status} ${answer.statusText}`),
        ` · ${said.filter(Boolean).join(" · ")}`),
      element("pre", { tabindex: "0" }, shortened(body)),
    ];
  } catch (error) {
    return [element("p", {}, element("span", { class: "bad" }, `No answer: ${error.message}`))];
  }
}

function shortened(body) {
  let text = body;
  if (body.length < SHOWN) {
    try {
      // Integers beyond 2^53 would change on their way through numbers: such text stays as it came.
      text = /\d{16}/.test(body) ? body : readable(JSON.parse(body));
    } catch { /* not JSON */ }
  }
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… ${text.length - SHOWN} characters more` : text;
}

// As JSON, with lists of plain values on one line.
function readable(value, indent = "") {
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.every((each) => each === null || typeof each !== "object")) {
      return `[${value.map((each) => JSON.stringify(each)).join(", ")}]`;
    }
    return `[\n${value.map((each) => inner + readable(each, inner)).join(",\n")}\n${indent}]`;
  }
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value);
    if (!members.length) return "{}";
    return `{\n${members.map(([name, each]) => `${inner}${JSON.stringify(name)}: ${readable(each, inner)}`).join(",\n")}\n${indent}}`;
  }
  return JSON.stringify(value);
}

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  load();
});
addEventListener("hashchange", show);
load().catch((error) => { byId("state").textContent = `No answer: ${error.message}`; });
