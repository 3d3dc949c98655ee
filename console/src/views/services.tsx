/** What is served: each model with its state, URLs and a client; then the routes of the user's own. */
import { modelPath, origin } from "../api";
import { Copy, FailureNote } from "../parts";
import { go, href } from "../route";
import { apps, services, servicesFailure, type App, type Service } from "../store";

export function Services() {
  const list = services.value;
  return (
    <div class="column">
      <section class="pane" aria-label="Model services">
        <header>
          <h1>Model services</h1>
          {list && <span class="muted small">{list.length}</span>}
        </header>
        {servicesFailure.value && <FailureNote failure={servicesFailure.value} testid="services-error" />}
        {servicesFailure.value?.code === "FORBIDDEN" && <ByName />}
        <div data-testid="services">
          {list?.length ? (
            <table class="services">
              <thead>
                <tr>
                  <th scope="col">Model</th>
                  <th scope="col">State</th>
                  <th scope="col">Versions</th>
                  <th scope="col">URLs</th>
                  <th scope="col">
                    <span class="unseen">Clients</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((service) => (
                  <Model key={service.name} service={service} />
                ))}
              </tbody>
            </table>
          ) : servicesFailure.value ? null : (
            <p class="empty">{list ? "No model is configured." : "Asking the server."}</p>
          )}
        </div>
      </section>
      {apps.value.length > 0 && (
        <section class="pane" aria-label="Custom routes">
          <header>
            <h2>Custom routes</h2>
          </header>
          <table class="services" data-testid="custom-routes">
            <thead>
              <tr>
                <th scope="col">Route</th>
                <th scope="col">State</th>
                <th scope="col">App</th>
                <th scope="col">URL</th>
                <th scope="col">
                  <span class="unseen">Clients</span>
                </th>
              </tr>
            </thead>
            <tbody>{apps.value.flatMap((app) => routesOf(app).map((route) => <Custom key={route.path} app={app} {...route} />))}</tbody>
          </table>
        </section>
      )}
    </div>
  );
}

function Model({ service }: { service: Service }) {
  const { name, state, reason, versions } = service;
  const path = modelPath(name);
  const client = { page: "model", model: name, tab: "inference" } as const;
  return (
    <tr data-testid="service" data-model={name} data-state={state}>
      <td>
        <a href={href(client)}>{name}</a>
      </td>
      <td>
        <State state={state} reason={reason} />
      </td>
      <td class="mono" data-label="Versions">{versions.map((one) => one.version).filter(Boolean).join(", ")}</td>
      <td>
        <div class="urls">
          <Url label="Inference URL" url={`${origin()}${path}/infer`} />
          <Url label="Metadata URL" url={origin() + path} />
        </div>
      </td>
      <td>
        <span class="row">
          <button
            type="button"
            class="primary"
            data-testid="service-client"
            disabled={state !== "READY"}
            title={state === "READY" ? undefined : `Active when the model is ready; it is ${state}`}
            aria-label={`CLIENT of ${name}`}
            onClick={() => go(client)}
          >
            CLIENT
          </button>
          <a
            class="button"
            data-testid="service-http"
            aria-label={`Plain HTTP client of ${name}`}
            href={href({ page: "client", method: "POST", path: `${path}/infer` })}
          >
            HTTP
          </a>
        </span>
      </td>
    </tr>
  );
}

/** For a key that may ask a model, but not list any. */
function ByName() {
  return (
    <form
      class="body row"
      onSubmit={(event) => {
        event.preventDefault();
        const model = new FormData(event.currentTarget).get("model");
        if (typeof model === "string" && model) go({ page: "model", model, tab: "inference" });
      }}
    >
      <label for="model-name">Open a model by its name</label>
      <input id="model-name" name="model" data-testid="model-name" />
      <button type="submit">Open</button>
    </form>
  );
}

function Url({ label, url }: { label: string; url: string }) {
  return (
    <div>
      <span class="url" data-testid="service-url" title={url}>
        {url}
      </span>
      <Copy text={url} label={`Copy ${label}`} testid="service-copy" />
    </div>
  );
}

/** A mount takes whatever comes below it. */
const routesOf = ({ routes, mounts }: App) => [
  ...routes,
  ...mounts.map((path) => ({ path: `${path}/`, methods: ["GET"], summary: "and all below it, with any method" })),
];

interface CustomProps {
  app: App;
  path: string;
  methods: string[];
  summary: string;
}

function Custom({ app, path, methods, summary }: CustomProps) {
  return (
    <tr data-testid="custom-route" data-path={path}>
      <td>
        <span class="row">
          {methods.map((method) => (
            <span class="method" key={method}>
              {method}
            </span>
          ))}
          <span class="mono">{path}</span>
        </span>
        {summary && <div class="small muted">{summary}</div>}
      </td>
      <td>
        <State state={app.ready ? "READY" : "UNAVAILABLE"} reason={app.reason} />
      </td>
      <td class="mono">{app.name}</td>
      <td>
        <div class="urls">
          <Url label={`the URL of ${path}`} url={origin() + path} />
        </div>
      </td>
      <td>
        <button
          type="button"
          class="primary"
          data-testid="service-client"
          aria-label={`CLIENT of ${path}`}
          disabled={!app.ready}
          onClick={() => go({ page: "client", method: methods[0] ?? "GET", path })}
        >
          CLIENT
        </button>
      </td>
    </tr>
  );
}

function State({ state, reason }: { state: string; reason?: string | undefined }) {
  return (
    <>
      <span class="state" data-testid="service-state" data-state={state}>
        {state}
      </span>
      {state !== "READY" && reason && <div class="small bad">{reason}</div>}
    </>
  );
}
