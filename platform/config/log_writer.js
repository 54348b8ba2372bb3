"use strict";
// In place of @vscode/spdlog, VS Code's log writer, whose native half is not compiled here: the same interface (its
// index.d.ts), the same lines, the same files. Without one the editor keeps every line in memory and shows no logs.

const fs = require("fs");
const path = require("path");

const LEVELS = ["trace", "debug", "info", "warning", "error", "critical"];
const INFO = 2;

const two = (number) => String(number).padStart(2, "0");

function now() {
  const at = new Date();
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${day} ${time}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** Writes one file of at most `size` bytes, and keeps the `count` files before it: log.txt, log.1.txt, log.2.txt, … */
class Logger {
  #file;
  #size;
  #count;
  #level = INFO;
  #bare = false;
  #handle = null;
  #written = 0;

  constructor(_type, _name, file, size, count) {
    this.#file = file;
    this.#size = size;
    this.#count = count;
    fs.mkdirSync(path.dirname(file), { recursive: true });
    this.#open();
  }

  #open() {
    this.#handle = fs.openSync(this.#file, "a");
    this.#written = fs.fstatSync(this.#handle).size;
  }

  #close() {
    if (this.#handle !== null) fs.closeSync(this.#handle);
    this.#handle = null;
  }

  #rotate() {
    const { dir, name, ext } = path.parse(this.#file);
    const numbered = (number) => (number ? path.join(dir, `${name}.${number}${ext}`) : this.#file);
    this.#close();
    for (let number = this.#count; number > 0; number -= 1) {
      if (fs.existsSync(numbered(number - 1))) fs.renameSync(numbered(number - 1), numbered(number));
    }
    this.#open();
  }

  #write(level, message) {
    if (level < this.#level || this.#handle === null) return;
    const line = Buffer.from(this.#bare ? message : `${now()} [${LEVELS[level]}] ${message}\n`);
    try {
      if (this.#written > 0 && this.#written + line.length > this.#size) this.#rotate();
      this.#written += fs.writeSync(this.#handle, line);
    } catch {
      // A full disk must not end the editor; the next line is tried again.
    }
  }

  trace(message) { this.#write(0, message); }
  debug(message) { this.#write(1, message); }
  info(message) { this.#write(2, message); }
  warn(message) { this.#write(3, message); }
  error(message) { this.#write(4, message); }
  critical(message) { this.#write(5, message); }
  getLevel() { return this.#level; }
  setLevel(level) { this.#level = level; }
  /** The one pattern that VS Code asks for is what is written. */
  setPattern() {}
  clearFormatters() { this.#bare = true; }
  /** Each line is written at once. */
  flush() {}
  drop() { this.#close(); }
}

exports.version = 0;
exports.setLevel = () => {};
exports.setFlushOn = () => {};
exports.Logger = Logger;
exports.createRotatingLogger = async (...values) => new Logger("rotating", ...values);
exports.createAsyncRotatingLogger = async (...values) => new Logger("rotating_async", ...values);
