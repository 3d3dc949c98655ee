/** Pictures as tensors: a sample for models that take nothing else, and pixels as numbers. */
import { base64Of } from "../binary";
import type { Attached } from "../types";

const SIDE = 64;

/** A small PNG with three shapes on it, drawn here. */
export function samplePicture(): Attached {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const pen = canvas.getContext("2d");
  if (pen) {
    pen.fillStyle = "#30343c";
    pen.fillRect(0, 0, SIDE, SIDE);
    pen.fillStyle = "#e2574c";
    pen.fillRect(6, 8, 20, 20);
    pen.fillStyle = "#4ca3e2";
    pen.beginPath();
    pen.arc(46, 18, 11, 0, 2 * Math.PI);
    pen.fill();
    pen.fillStyle = "#e2c34c";
    pen.beginPath();
    pen.moveTo(20, 58);
    pen.lineTo(46, 58);
    pen.lineTo(33, 36);
    pen.fill();
  }
  const base64 = canvas.toDataURL("image/png").split(",")[1] ?? "";
  return { name: "sample.png", type: "image/png", base64 };
}

/** Smallest and largest value of a pixel. */
export type Range = [number, number];

export interface Layout {
  shape: number[];
  height: number;
  width: number;
  channels: number;
  channelsFirst: boolean;
}

/**
 * How a picture lies in a tensor of this shape: `[..., height, width, channels]` or `[..., channels, height, width]`
 * of 1, 3 or 4 channels; nothing when it cannot. A side of any size is one that the picture brings along (0).
 */
export function pictureShape(shape: number[]): Layout | undefined {
  if (shape.length < 3 || shape.length > 4) return undefined;
  const [a = 0, b = 0, c = 0] = shape.slice(-3);
  if (shape.length === 4 && (shape[0] ?? 0) > 1) return undefined;
  const isChannels = (size: number) => size === 1 || size === 3 || size === 4;
  const isSide = (size: number) => size < 0 || size > 4;
  const side = (size: number) => Math.max(size, 0);
  if (isChannels(c) && isSide(a) && isSide(b)) {
    return { shape, height: side(a), width: side(b), channels: c, channelsFirst: false };
  }
  if (isChannels(a) && isSide(b) && isSide(c)) {
    return { shape, height: side(b), width: side(c), channels: a, channelsFirst: true };
  }
  return undefined;
}

/** A picture as the raw bytes of a tensor: drawn at the tensor's size, its pixels from the lowest to the highest. */
export async function pixels(file: File, layout: Layout, datatype: string, range: Range):
Promise<{ attached: Attached; shape: number[] }> {
  const bitmap = await decoded(file);
  const width = layout.width || bitmap.width;
  const height = layout.height || bitmap.height;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("the browser gives no canvas");
  pen.drawImage(bitmap, 0, 0, width, height);
  const rgba = pen.getImageData(0, 0, width, height).data;
  const values = arranged(rgba, width * height, layout, range);
  const sides = layout.channelsFirst ? [layout.channels, height, width] : [height, width, layout.channels];
  return {
    attached: {
      name: file.name,
      type: "application/octet-stream",
      base64: base64Of(raw(values, datatype)),
      picture: canvas.toDataURL("image/png"),
    },
    shape: layout.shape.length === 4 ? [1, ...sides] : sides,
  };
}

async function decoded(file: File): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no picture that this browser reads`);
  }
}

/** In the order of the tensor; of one channel it is the brightness (ITU-R BT.601). */
export function arranged(rgba: Uint8ClampedArray, count: number, layout: Layout, [low, high]: Range): number[] {
  const { channels, channelsFirst } = layout;
  const values = new Array<number>(count * channels);
  const scale = (high - low) / 255;
  for (let pixel = 0; pixel < count; pixel++) {
    const at = pixel * 4;
    for (let channel = 0; channel < channels; channel++) {
      const value = channels === 1
        ? 0.299 * (rgba[at] ?? 0) + 0.587 * (rgba[at + 1] ?? 0) + 0.114 * (rgba[at + 2] ?? 0)
        : (rgba[at + channel] ?? 0);
      values[channelsFirst ? channel * count + pixel : pixel * channels + channel] = low + value * scale;
    }
  }
  return values;
}

/** Little-endian, as the extension has it. */
export function raw(values: number[], datatype: string): Uint8Array {
  const write = WRITERS[datatype];
  if (!write) throw new Error(`a picture cannot be written as ${datatype} here`);
  const [size, put] = write;
  const bytes = new Uint8Array(values.length * size);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => put(view, index * size, value));
  return bytes;
}

const WRITERS: Record<string, [number, (view: DataView, at: number, value: number) => void]> = {
  UINT8: [1, (view, at, value) => view.setUint8(at, Math.round(value))],
  UINT16: [2, (view, at, value) => view.setUint16(at, Math.round(value), true)],
  UINT32: [4, (view, at, value) => view.setUint32(at, Math.round(value), true)],
  UINT64: [8, (view, at, value) => view.setBigUint64(at, BigInt(Math.round(value)), true)],
  INT16: [2, (view, at, value) => view.setInt16(at, Math.round(value), true)],
  INT32: [4, (view, at, value) => view.setInt32(at, Math.round(value), true)],
  INT64: [8, (view, at, value) => view.setBigInt64(at, BigInt(Math.round(value)), true)],
  FP32: [4, (view, at, value) => view.setFloat32(at, value, true)],
  FP64: [8, (view, at, value) => view.setFloat64(at, value, true)],
};
