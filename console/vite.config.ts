import { defineConfig } from "vitest/config";

export default defineConfig({
  // Addresses in the built page are relative, so that it works below any path that a proxy adds.
  base: "./",
  build: {
    outDir: "../oipserver/console/static",
    emptyOutDir: true,
    target: "es2022",
    // The Content-Security-Policy allows no inlined assets but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/v2": "http://127.0.0.1:8080", "/metrics": "http://127.0.0.1:8080" } },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
