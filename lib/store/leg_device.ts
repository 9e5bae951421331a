/**
 * What is done to a leg's backing device while it is not served: looking, making, opening, unmaking. Synchronous: for
 * workers only.
 *
 * A leg comes to be served thus: `DeviceFile.open(path, {access: "exclusive"})`, `loadLeg(device)`, then
 * `openLegStore({device, …})`, which owns the device from then on.
 *
 * @module
 */

export { DeviceFile } from "./device_file.ts";
export { formatLeg, type FormatLegOptions, wipeLeg } from "./format_leg.ts";
export { type LoadedLeg, type LoadedMapPage, loadLeg } from "./load_leg.ts";
export { isPathFree, probeDevice, type ProbeOptions } from "./probe_leg.ts";
export { StoreError, type StoreErrorCode } from "./store_error.ts";
export { UNWATCHED, type WorkWatch } from "./work_watch.ts";
