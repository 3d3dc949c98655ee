/** The words of the Open Inference Protocol that the console's rooms share. */

export type Datatype =
  | "BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64"
  | "FP16" | "BF16" | "FP32" | "FP64" | "BYTES";

export interface TensorMetadata {
  name: string;
  datatype: Datatype;
  /** -1 is a dimension of any size. */
  shape: number[];
  parameters?: Record<string, unknown>;
}

export interface ModelMetadata {
  name: string;
  versions: string[];
  platform: string;
  inputs: TensorMetadata[];
  outputs: TensorMetadata[];
  parameters?: {
    optional_outputs?: TensorMetadata[];
    named_inputs?: TensorMetadata[];
    [key: string]: unknown;
  };
}

export interface Tensor {
  name: string;
  datatype: Datatype;
  shape: number[];
  data: unknown[];
  parameters?: Record<string, unknown>;
}

export interface InferBody {
  id?: string;
  parameters?: Record<string, unknown>;
  inputs: Tensor[];
  outputs?: { name: string; parameters?: Record<string, unknown> }[];
}

export interface InferAnswer {
  model_name: string;
  model_version?: string;
  id?: string;
  parameters?: Record<string, unknown>;
  outputs: Tensor[];
}

/** A request as it leaves the browser. The API key is not part of it: it is added when it is sent. */
export interface Outgoing {
  method: string;
  /** A path below the server's base, with a leading slash: `/v2/models/iris/infer`. */
  path: string;
  headers: Record<string, string>;
  body?: string;
  /** Bytes of the tensors that `body` announces with `binary_data_size`: see binary.ts. */
  files?: Files;
}

/** A file as an element of a BYTES tensor (JSON cannot hold bytes), or the raw bytes of a tensor of numbers. */
export interface Attached {
  /** The name of the file. */
  name: string;
  /** Its media type. */
  type: string;
  base64: string;
  /** What to show for it (an address with `data:`), where the bytes themselves are no picture. */
  picture?: string;
}

/** By name of the input; one for each element. */
export type Files = Record<string, Attached[]>;

/** What the server measured of one answer, in milliseconds (`Server-Timing`); `rows` counts rows of the batch. */
export interface Timing {
  total?: number;
  queue?: number;
  compute?: number;
  rows?: number;
  [name: string]: number | undefined;
}

/** Why there is no good answer, in words for a person. */
export interface Failure {
  /** One of the server's error codes, or LOST, TIMED_OUT, STOPPED for what happened on the way. */
  code: string;
  title: string;
  /** The server's own sentence, or what to do. */
  detail: string;
  /** The member of the body that the server names, such as `inputs[0].data`. */
  field?: string;
  /** Seconds, from Retry-After. */
  retryAfter?: number;
}

/** The end of one request, good or bad. */
export interface Answer {
  /** 0 when nothing was answered. */
  status: number;
  statusText: string;
  headers: Record<string, string>;
  body: string;
  /** Of `body`, when the answer is no text. */
  encoding?: "base64";
  /** Milliseconds that passed in the browser. */
  elapsed: number;
  timing: Timing;
  requestId?: string;
  failure?: Failure;
}

/** One line of the history. */
export interface Entry {
  id: string;
  model: string;
  version?: string;
  /** Milliseconds since 1970. */
  at: number;
  request: Outgoing;
  answer: Answer;
  pinned: boolean;
}
