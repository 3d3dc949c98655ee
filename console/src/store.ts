/** What the console knows now: the server's health, its services, and a session for each model. */
import { signal, type Signal } from "@preact/signals";
import { get, modelPath } from "./api";
import { inWords } from "./failures";
import { load, save } from "./stored";
import type { Answer, Failure, Files, ModelMetadata } from "./types";

// --- health ---------------------------------------------------------------------------------------------

export interface Health {
  state: "unknown" | "good" | "bad";
  reason: string;
}

const UNKNOWN: Health = { state: "unknown", reason: "" };

export const live = signal<Health>(UNKNOWN);
export const ready = signal<Health>(UNKNOWN);
/** Nothing answers at all. */
export const connectionLost = signal(false);

/** Each by itself: a server may be live and not ready, and one of the two may not be answered. */
export async function checkHealth(): Promise<void> {
  const failures = await Promise.all([check("live", live), check("ready", ready)]);
  connectionLost.value = failures.every((failure) => failure?.code === "LOST" || failure?.code === "TIMED_OUT");
}

async function check(what: "live" | "ready", health: Signal<Health>): Promise<Failure | undefined> {
  const got = await get<Record<string, unknown>>(`/v2/health/${what}`, "GET", 5);
  const reason = got.failure ? reasonOf(got.failure) : got.value[what] === false ? `The server says that it is not ${what}.` : "";
  if (reason !== health.value.reason || health.value.state === "unknown") {
    health.value = { state: reason ? "bad" : "good", reason };
  }
  return got.failure;
}

function reasonOf(failure: Failure): string {
  if (failure.code === "NOT_READY") return failure.detail;
  return failure.code === "LOST" || failure.code === "TIMED_OUT" ? `${failure.title}.` : inWords(failure);
}

// --- services -------------------------------------------------------------------------------------------

export interface Version {
  version: string;
  state: string;
  reason?: string;
}

export interface Service {
  name: string;
  /** Of its versions, the best: it answers when one of them is READY. */
  state: string;
  reason: string;
  versions: Version[];
}

/** A file with routes of the user's own. */
export interface App {
  name: string;
  ready: boolean;
  reason?: string;
  routes: { path: string; methods: string[]; summary: string }[];
  /** Below these paths, it takes every method. */
  mounts: string[];
}

export const services = signal<Service[] | undefined>(undefined);
export const apps = signal<App[]>([]);
export const servicesFailure = signal<Failure | undefined>(undefined);
export const serverName = signal("");

type Index = { name: string; version?: string; state?: string; reason?: string }[];

export async function checkServices(): Promise<void> {
  const [index, loaded] = await Promise.all([
    get<Index>("/v2/repository/index", "POST"),
    get<{ apps: App[] }>("/v2/apps"),
  ]);
  apps.value = loaded.value?.apps ?? [];
  if (index.value) services.value = fromIndex(index.value);
  else if (index.failure.code === "FORBIDDEN" || index.failure.code === "NOT_FOUND") return fromNames();
  servicesFailure.value = index.failure;
}

const ORDER = ["READY", "LOADING", "WARMING", "UNLOADING", "UNAVAILABLE"];

export function fromIndex(index: Index): Service[] {
  const found = new Map<string, Version[]>();
  for (const { name, version = "", state = "UNKNOWN", reason } of index) {
    const versions = found.get(name) ?? [];
    versions.push(reason ? { version, state, reason } : { version, state });
    found.set(name, versions);
  }
  return [...found].map(([name, versions]) => {
    const best = [...versions].sort((a, b) => rank(a.state) - rank(b.state))[0];
    return { name, versions, state: best?.state ?? "UNKNOWN", reason: best?.reason ?? "" };
  });
}

function rank(state: string): number {
  const place = ORDER.indexOf(state);
  return place < 0 ? ORDER.length : place;
}

/** For callers who may not see the index: the names, and whether each is ready. */
async function fromNames(): Promise<void> {
  const names = await get<{ models: string[] }>("/v2/models");
  servicesFailure.value = names.failure;
  if (!names.value) return;
  services.value = await Promise.all(
    names.value.models.map(async (name) => {
      const { failure } = await get(`${modelPath(name)}/ready`);
      return { name, versions: [], state: failure ? "UNAVAILABLE" : "READY", reason: failure?.detail ?? "" };
    }),
  );
}

// --- sessions -------------------------------------------------------------------------------------------

export type Shown = "json" | "raw" | "html" | "drawn";

/** What a user did with one model; it outlives every switch of tabs and models. */
export interface Session {
  model: string;
  text: Signal<string>;
  files: Signal<Files>;
  answer: Signal<Answer | undefined>;
  /** What `answer` answers. */
  asked: Signal<{ text: string; files: Files } | undefined>;
  sending: Signal<AbortController | undefined>;
  /** Milliseconds of the latest answers, the newest last. */
  latencies: Signal<number[]>;
  metadata: Signal<ModelMetadata | undefined>;
  metadataFailure: Signal<Failure | undefined>;
  /** The version that `metadata` was asked for. */
  described: string | undefined;
  /** The request that it began with. */
  prefilled: { text: string; files: Files } | undefined;
  compared: Signal<string[]>;
}

const sessions = new Map<string, Session>();

export function sessionOf(model: string): Session {
  let session = sessions.get(model);
  if (!session) {
    session = {
      model,
      text: signal(""),
      files: signal({}),
      answer: signal(undefined),
      asked: signal(undefined),
      sending: signal(undefined),
      latencies: signal([]),
      metadata: signal(undefined),
      metadataFailure: signal(undefined),
      described: undefined,
      prefilled: undefined,
      compared: signal([]),
    };
    sessions.set(model, session);
  }
  return session;
}

// --- preferences ----------------------------------------------------------------------------------------

export type Theme = "light" | "dark";

const THEME = "oipserver.theme";
const SHOWN = "oipserver.shown";

export const theme = signal<Theme | undefined>(load<Theme>(THEME));
export const shown = signal<Shown>(load<Shown>(SHOWN) ?? "json");
export const fullscreen = signal(false);

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen;
  save(THEME, chosen);
}

export function choose(view: Shown): void {
  shown.value = view;
  save(SHOWN, view);
}

export const darkNow = (): boolean =>
  theme.value ? theme.value === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
