/** The server's throughput, latency, queue and batch size, from /metrics. */
export function ServerPanel() {
  return <p>—</p>;
}
