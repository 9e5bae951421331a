import assert from "node:assert/strict";
import fc from "fast-check";
import {
  formatBytes,
  formatDuration,
  formatRate,
  parseDuration,
  parseRate,
  parseSize,
  UnitError,
} from "../../../lib/base/units.ts";

function refuses(parse: (text: string) => number, text: string, hint: RegExp): void {
  assert.throws(() => parse(text), (error: unknown) => {
    assert.ok(error instanceof UnitError, String(error));
    assert.ok(error.message.includes(JSON.stringify(text)), error.message);
    assert.match(error.message, hint);
    return true;
  });
}

Deno.test("parseSize() takes bytes and binary units", () => {
  const cases: [string, number][] = [
    ["0", 0],
    ["512", 512],
    ["4K", 4096],
    ["4k", 4096],
    ["4KiB", 4096],
    ["4 KB", 4096],
    ["1G", 2 ** 30],
    ["1.5T", 1.5 * 2 ** 40],
    ["0.5K", 512],
    [" 16M ", 16 * 2 ** 20],
    ["7P", 7 * 2 ** 50],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ];
  for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text);
});

Deno.test("parseSize() says what is wrong and what to type", () => {
  for (const text of ["", "x", "-1G", "1X", "1.G", ".5G", "1e3", "1,5G", "0x10", "G", "1GG", "1 G M"]) {
    refuses(parseSize, text, /e\.g\. "1G"/);
  }
  refuses(parseSize, "0.3K", /type 307 or 308/);
  refuses(parseSize, "8P", /too large/);
  refuses(parseSize, "9007199254740992", /too large/);
  refuses(parseSize, "9".repeat(400) + "T", /too large/);
});

Deno.test("parseSize() is exact for every whole number of bytes", () => {
  fc.assert(fc.property(fc.maxSafeNat(), (bytes) => assert.equal(parseSize(String(bytes)), bytes)));
  fc.assert(fc.property(fc.nat({ max: 2 ** 31 - 1 }), (k) => assert.equal(parseSize(`${k}K`), k * 1024)));
});

Deno.test("parseRate() takes sizes per second and words for no limit", () => {
  const cases: [string, number][] = [
    ["100M/s", 100 * 2 ** 20],
    ["100M", 100 * 2 ** 20],
    ["1MiB/s", 2 ** 20],
    ["1MBps", 2 ** 20],
    ["unlimited", 0],
    ["None", 0],
  ];
  for (const [text, rate] of cases) assert.equal(parseRate(text), rate, text);
  for (const text of ["", "/s", "fast", "10M/m", "10M/h"]) refuses(parseRate, text, /e\.g\. "100M\/s"/);
  for (const text of ["0", "0M/s"]) refuses(parseRate, text, /pause.*unlimited/);
});

Deno.test("parseDuration() needs a unit", () => {
  const cases: [string, number][] = [
    ["250ms", 250],
    ["3s", 3000],
    ["1.5s", 1500],
    ["0.1s", 100],
    ["2m", 120_000],
    ["2min", 120_000],
    ["1h", 3_600_000],
    ["1d", 86_400_000],
    ["0", 0],
  ];
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text);
  refuses(parseDuration, "3", /"3ms" or "3s"/);
  refuses(parseDuration, "soon", /e\.g\. "3s"/);
  refuses(parseDuration, "-3s", /e\.g\. "3s"/);
  refuses(parseDuration, "0.4ms", /finer than a millisecond/);
  refuses(parseDuration, "9".repeat(30) + "d", /too long/);
});

Deno.test("formatBytes() uses the unit that fits", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [1024 * 1024 - 1, "1 MiB"],
    [1.25 * 2 ** 30, "1.25 GiB"],
    [100 * 2 ** 30, "100 GiB"],
    [1000 * 2 ** 20, "1000 MiB"],
    [3 * 2 ** 50, "3 PiB"],
    [-2048, "-2 KiB"],
    [NaN, "?"],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
  assert.equal(formatRate(1.5 * 2 ** 20), "1.5 MiB/s");
  assert.equal(formatRate(0.4), "0 B/s");
});

Deno.test("formatBytes() stays within half a percent of the truth", () => {
  fc.assert(fc.property(fc.maxSafeNat(), (bytes) => {
    const [number, unit] = formatBytes(bytes).split(" ");
    const back = parseFloat(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].indexOf(unit);
    assert.ok(Math.abs(back - bytes) <= bytes * 0.005, `${bytes} reads ${number} ${unit}`);
    assert.ok(parseFloat(number) < 1024);
  }));
});

Deno.test("formatDuration() shows at most two units", () => {
  const cases: [number, string][] = [
    [0, "0 ms"],
    [250.4, "250 ms"],
    [999.6, "1 s"],
    [3200, "3.2 s"],
    [59_949, "59.9 s"],
    [59_950, "1 min"],
    [125_000, "2 min 5 s"],
    [3_599_600, "1 h"],
    [11_520_000, "3 h 12 min"],
    [86_399_999, "1 d"],
    [97 * 3_600_000, "4 d 1 h"],
    [Infinity, "?"],
  ];
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text);
});
