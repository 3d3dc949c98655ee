export function App() {
  return <h1>InferenceV2 Client</h1>;
}
