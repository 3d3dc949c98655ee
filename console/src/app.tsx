/** The frame around all views: health, navigation, key, theme. */
import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import "./app.css";
import { infer, open } from "./infer";
import { apiKey, keep } from "./key";
import { go, href, route, TABS, type Route, type Tab } from "./route";
import { listen, ShortcutsHelp, type Shortcut } from "./shortcuts";
import {
  checkHealth,
  checkServices,
  chooseTheme,
  connectionLost,
  darkNow,
  fullscreen,
  live,
  ready,
  services,
  sessionOf,
  theme,
  type Health,
} from "./store";
import { historyOf } from "./history";
import { requestOf } from "./infer";
import { Client } from "./views/client";
import { Compare } from "./views/compare";
import { Inference } from "./views/inference";
import { Load } from "./views/load";
import { Metadata } from "./views/metadata";
import { ServerPanel } from "./views/server";
import { Services } from "./views/services";

/** Milliseconds between two looks at the server's health; services change more rarely. */
const FRESH = 5_000;
const EVERY = 3;

export function App() {
  const [help, setHelp] = useState(false);
  useEffect(watch, []);
  useEffect(() => listen(() => shortcuts(() => setHelp((now) => !now))), []);
  const now = route.value;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the content
      </a>
      <Top onHelp={() => setHelp(true)} />
      <Reasons />
      <main id="main" tabIndex={-1}>
        <Page route={now} />
      </main>
      {fullscreen.value && (
        <button class="leave-full" type="button" data-testid="fullscreen-leave" onClick={() => full(false)}>
          Leave full screen
        </button>
      )}
      {help && <ShortcutsHelp shortcuts={shortcuts(() => undefined)} onClose={() => setHelp(false)} />}
    </>
  );
}

function Page({ route: now }: { route: Route }) {
  switch (now.page) {
    case "services":
      return <Services />;
    case "server":
      return <ServerPanel />;
    case "client":
      return <Client method={now.method} path={now.path} />;
    case "model":
      return <Model key={now.model} {...now} />;
  }
}

// --- one model ------------------------------------------------------------------------------------------

const TAB_NAMES: Record<Tab, string> = {
  inference: "Inference",
  metadata: "Metadata",
  compare: "Compare",
  load: "Load",
};

function Model({ model, tab, version }: { model: string; tab: Tab; version?: string }) {
  const session = sessionOf(model);
  // A view that was once opened stays, so that what happens in it goes on while another is looked at.
  const opened = useRef(new Set<Tab>());
  opened.current.add(tab);
  const service = services.value?.find((one) => one.name === model);
  const key = apiKey.value;
  useEffect(() => {
    if (session.described !== (version ?? "") || !session.metadata.peek()) void open(session, version);
  }, [session, version, key, service?.state]);
  const versions = [...new Set([...(session.metadata.value?.versions ?? []), ...(service?.versions ?? []).map((one) => one.version)])];
  return (
    <>
      <div class="model-bar">
        <a href={href({ page: "services" })}>Services</a>
        <span class="muted" aria-hidden="true">
          /
        </span>
        <h1>{model}</h1>
        {service && (
          <span class="state" data-state={service.state} data-testid="model-state" title={service.reason}>
            {service.state}
          </span>
        )}
        {versions.filter(Boolean).length > 0 && (
          <label class="row">
            Version
            <select
              data-testid="version-picker"
              value={version ?? ""}
              onChange={(event) => {
                const chosen = event.currentTarget.value;
                go({ page: "model", model, tab, ...(chosen ? { version: chosen } : {}) });
              }}
            >
              <option value="">default</option>
              {versions.filter(Boolean).map((one) => (
                <option key={one} value={one}>
                  {one}
                </option>
              ))}
            </select>
          </label>
        )}
        <Tabs model={model} tab={tab} version={version} />
      </div>
      {TABS.filter((one) => opened.current.has(one)).map((one) => (
        <div key={one} id={`panel-${one}`} role="tabpanel" aria-labelledby={`tab-${one}`} hidden={one !== tab}>
          {one === "inference" && <Inference session={session} version={version} />}
          {one === "metadata" && <Metadata session={session} version={version} />}
          {one === "compare" && <Compare entries={historyOf(model).entries.value} chosen={session.compared} />}
          {one === "load" && <Load request={() => requestOf(session, version)} />}
        </div>
      ))}
    </>
  );
}

function Tabs({ model, tab, version }: { model: string; tab: Tab; version?: string | undefined }) {
  const to = (one: Tab) => go({ page: "model", model, tab: one, ...(version ? { version } : {}) });
  const step = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length] ?? tab;
    to(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div class="choice" role="tablist" aria-label="Views of the model" onKeyDown={step}>
      {TABS.map((one) => (
        <button
          key={one}
          type="button"
          role="tab"
          id={`tab-${one}`}
          data-testid={`tab-${one}`}
          aria-selected={one === tab}
          aria-controls={one === tab ? `panel-${one}` : undefined}
          tabIndex={one === tab ? 0 : -1}
          onClick={() => to(one)}
        >
          {TAB_NAMES[one]}
        </button>
      ))}
    </div>
  );
}

// --- the header -----------------------------------------------------------------------------------------

function Top({ onHelp }: { onHelp: () => void }) {
  const page = route.value.page;
  const link = (to: Route, name: string) => (
    <a
      href={href(to)}
      data-testid={`nav-${to.page}`}
      aria-current={page === to.page || (page === "model" && to.page === "services") ? "page" : undefined}
    >
      {name}
    </a>
  );
  return (
    <header class="top">
      <a class="brand" href="#/">
        InferenceV2 Client
      </a>
      <nav aria-label="Main">
        {link({ page: "services" }, "Services")}
        {link({ page: "server" }, "Server")}
        {link({ page: "client" }, "HTTP")}
      </nav>
      <div class="chips">
        <Chip name="Ready" testid="chip-ready" health={ready.value} />
        <Chip name="Live" testid="chip-live" health={live.value} />
      </div>
      <Key />
      <div class="tools">
        <Tool label={darkNow() ? "Light theme" : "Dark theme"} testid="theme-toggle" path={THEME} onClick={toggleTheme} />
        <Tool
          label="Full screen"
          testid="fullscreen-toggle"
          path={FULL}
          pressed={fullscreen.value}
          onClick={() => full(!fullscreen.value)}
        />
        <Tool label="Keyboard shortcuts" testid="help-open" path={HELP} onClick={onHelp} />
      </div>
    </header>
  );
}

function Chip({ name, testid, health }: { name: string; testid: string; health: Health }) {
  return (
    <span class="state" data-testid={testid} data-state={health.state} title={health.reason || undefined}>
      {name}
      <span class="unseen">{{ good: ": yes", bad: ": no", unknown: ": not known yet" }[health.state]}</span>
    </span>
  );
}

/** Below the chips, why a check failed. */
function Reasons() {
  const [notReady, notLive] = [ready.value.reason, live.value.reason];
  if (!notReady && !notLive) return null;
  return (
    <div class="reasons" role="status">
      {connectionLost.value && <p data-testid="connection-lost">The connection to the server is lost; the console looks for it every {FRESH / 1000} seconds.</p>}
      {notReady && (
        <p>
          <strong>Not ready.</strong> <span data-testid="chip-ready-reason">{notReady}</span>
        </p>
      )}
      {notLive && (
        <p>
          <strong>Not live.</strong> <span data-testid="chip-live-reason">{notLive}</span>
        </p>
      )}
    </div>
  );
}

function Key() {
  return (
    <div class="api-key">
      <label for="api-key">API key</label>
      <input
        id="api-key"
        type="password"
        autocomplete="off"
        data-testid="api-key"
        title="Kept in this tab alone, and sent to this server alone"
        value={apiKey.value}
        onChange={(event) => keep(event.currentTarget.value)}
      />
      {apiKey.value && (
        <button type="button" class="plain" data-testid="api-key-clear" onClick={() => keep("")}>
          Clear
        </button>
      )}
    </div>
  );
}

const THEME = "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2v12M10 3v10M12 4.5v7";
const FULL = "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4";
const HELP = "M5.5 6a2.5 2.5 0 1 1 3.6 2.2C8.3 8.6 8 9 8 10M8 12.5v.6";

interface ToolProps {
  label: string;
  testid: string;
  path: string;
  pressed?: boolean;
  onClick: () => void;
}

function Tool({ label, testid, path, pressed, onClick }: ToolProps) {
  return (
    <button class="plain" type="button" aria-label={label} title={label} aria-pressed={pressed} data-testid={testid} onClick={onClick}>
      <svg viewBox="0 0 16 16" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round">
        <path d={path} />
      </svg>
    </button>
  );
}

// --- what goes on beside the page -----------------------------------------------------------------------

/** Health on opening and then all the time, as long as somebody can see it. */
function watch(): () => void {
  let count = 0;
  const look = () => {
    if (document.visibilityState === "hidden") return;
    void checkHealth();
    if (++count % EVERY === 0) void checkServices();
  };
  const timer = setInterval(look, FRESH);
  const wake = () => ((count = EVERY - 1), look());
  document.addEventListener("visibilitychange", wake);
  document.addEventListener("fullscreenchange", leave);
  // At once, and again with every other key or when models become ready.
  const ask = effect(() => (void apiKey.value, void ready.value.state, void checkServices()));
  look();
  return () => {
    clearInterval(timer);
    ask();
    document.removeEventListener("visibilitychange", wake);
    document.removeEventListener("fullscreenchange", leave);
  };
}

effect(() => {
  const root = document.documentElement;
  if (theme.value) root.dataset.theme = theme.value;
  root.dataset.full = String(fullscreen.value);
});
effect(() => {
  const now = route.value;
  document.title = now.page === "model" ? `${now.model} – InferenceV2 Client` : "InferenceV2 Client";
});

function toggleTheme(): void {
  chooseTheme(darkNow() ? "light" : "dark");
}

/** The page fills the window, and the window the screen where the browser lets it. */
function full(wanted: boolean): void {
  fullscreen.value = wanted;
  if (wanted) void document.documentElement.requestFullscreen?.().catch(() => undefined);
  else if (document.fullscreenElement) void document.exitFullscreen();
}

/** The user left with Escape. */
function leave(): void {
  if (!document.fullscreenElement) fullscreen.value = false;
}

function shortcuts(toggleHelp: () => void): Shortcut[] {
  const now = route.value;
  const general: Shortcut[] = [
    { keys: "?", title: "Show or hide this help", run: toggleHelp },
    { keys: "Alt+S", title: "Model services", run: () => go({ page: "services" }) },
    { keys: "Alt+P", title: "Live server panel", run: () => go({ page: "server" }) },
    { keys: "Alt+H", title: "Plain HTTP client", run: () => go({ page: "client" }) },
    { keys: "Alt+T", title: "Light or dark theme", run: toggleTheme },
    { keys: "Alt+F", title: "Full screen", run: () => full(!fullscreen.value) },
  ];
  if (now.page !== "model") return general;
  const session = sessionOf(now.model);
  return [
    { keys: "Mod+Enter", title: "Send the request", run: () => void infer(session, now.version) },
    ...TABS.map((tab, at) => ({ keys: `Alt+${at + 1}`, title: TAB_NAMES[tab], run: () => go({ ...now, tab }) })),
    ...general,
  ];
}
