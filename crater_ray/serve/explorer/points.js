// Every item of the index as a place on a map: columns in typed arrays, so that 100,000 are light.

import { items } from "./api.js";

const PAGE = 10_000;
export const MOST = 400_000; // items that are fetched for the map

export class Points {
  constructor(role) {
    this.role = role;
    this.ids = [];
    this.groups = [];
    this.count = this.total = 0;
    this.bodies = []; // names; `body` holds their numbers
    this.marks = []; // items that are drawn: the first of each group and place
    this.room(0);
    this.seen = new Set();
    this.byId = new Map();
  }

  room(size) {
    const longer = (old, Kind) => {
      const made = new Kind(size);
      if (old) made.set(old.subarray(0, this.count));
      return made;
    };
    this.lat = longer(this.lat, Float32Array);
    this.lon = longer(this.lon, Float32Array);
    this.diameter = longer(this.diameter, Float32Array);
    this.body = longer(this.body, Uint8Array);
  }

  /** Fetches page by page; `progress` is called after each. Rejects with a Problem. */
  async load(progress, signal) {
    const { lat, lon, body, diameter } = this.role;
    const columns = [lat, lon, body, diameter].filter(Boolean).map((column) => column.name);
    let cursor = null;
    do {
      const page = await items({ columns, limit: PAGE, cursor, signal });
      this.total = page.total;
      if (this.lat.length < Math.min(page.total, MOST)) this.room(Math.min(page.total, MOST));
      this.take(page);
      cursor = this.count < MOST ? page.next : null;
      progress(this);
    } while (cursor);
  }

  take({ columns, rows }) {
    const at = (column) => (column ? columns.indexOf(column.name) : -1);
    const [lat, lon, body, diameter] = ["lat", "lon", "body", "diameter"].map((name) => at(this.role[name]));
    const scale = this.role.diameter?.name === "diameter_m" ? 0.001 : 1;
    for (const row of rows.slice(0, this.lat.length - this.count)) {
      const item = this.count++;
      this.ids.push(row[0]);
      this.groups.push(row[1]);
      this.byId.set(row[0], item);
      this.lat[item] = lat < 0 ? NaN : (row[lat] ?? NaN);
      this.lon[item] = lon < 0 ? NaN : (row[lon] ?? NaN);
      this.diameter[item] = diameter < 0 ? NaN : (row[diameter] ?? NaN) * scale;
      this.body[item] = this.bodyNumber(body < 0 ? null : row[body]);
      const place = `${row[1]}\0${this.body[item]}\0${this.lat[item].toFixed(2)}\0${this.lon[item].toFixed(2)}`;
      if (Number.isNaN(this.lat[item]) || this.seen.has(place)) continue;
      this.seen.add(place);
      this.marks.push(item);
    }
  }

  bodyNumber(name) {
    const number = this.bodies.indexOf(name);
    if (number >= 0) return number;
    return this.bodies.length < 255 ? this.bodies.push(name) - 1 : 255;
  }

  /** Ids of the same group, in the order of the index. */
  views(group) {
    return this.ids.filter((_, item) => this.groups[item] === group);
  }

  /** The first ids that hold some text. */
  like(text, most) {
    const wanted = text.toLowerCase();
    const found = [];
    for (const id of this.ids) {
      if (id.toLowerCase().includes(wanted)) found.push(id);
      if (found.length === most) break;
    }
    return found;
  }
}
