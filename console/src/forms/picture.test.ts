import { describe, expect, test } from "vitest";
import { arranged, pictureShape, raw } from "./picture";

describe("pictures as numbers", () => {
  test.each([
    [[-1, 3, 224, 224], { height: 224, width: 224, channels: 3, channelsFirst: true }],
    [[1, 28, 28, 1], { height: 28, width: 28, channels: 1, channelsFirst: false }],
    [[-1, -1, 3], { height: 0, width: 0, channels: 3, channelsFirst: false }],
  ])("%j is the shape of one", (shape, layout) => {
    expect(pictureShape(shape)).toMatchObject(layout);
  });

  test.each([[[-1, 4]], [[4, 224, 224, 3]], [[2, 2, 2]], [[-1]]])("%j is not", (shape) => {
    expect(pictureShape(shape)).toBeUndefined();
  });

  const RGBA = new Uint8ClampedArray([255, 0, 51, 255, 0, 255, 102, 255]);

  test("channels first or last, in the tensor's range", () => {
    const last = pictureShape([5, 5, 3])!;
    const first = pictureShape([3, 5, 5])!;
    expect(arranged(RGBA, 2, last, [0, 255])).toEqual([255, 0, 51, 0, 255, 102]);
    expect(arranged(RGBA, 2, first, [0, 1])).toEqual([1, 0, 0, 1, 0.2, 0.4]);
  });

  test("one channel is the brightness", () => {
    expect(arranged(new Uint8ClampedArray([255, 255, 255, 255]), 1, pictureShape([5, 5, 1])!, [0, 1])[0]).toBeCloseTo(1);
  });

  test("bytes are little-endian", () => {
    expect([...raw([1, 258], "UINT16")]).toEqual([1, 0, 2, 1]);
    expect([...raw([1], "FP32")]).toEqual([0, 0, 128, 63]);
    expect(() => raw([1], "BOOL")).toThrow("BOOL");
  });
});
