/** Pictures as tensors: a sample for models that take nothing else, and pixels as numbers. */
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
