// Which of the items' own columns the page knows the meaning of.

/** {lat, lon, body, diameter, rest}: columns of GET /v1/index, null where there is none. */
export function roles(columns) {
  const numbers = columns.filter((column) => column.type === "number" && column.min !== null);
  const named = (name, among) => among.find((column) => column.name === name) ?? null;
  const lat = named("lat", numbers);
  const lon = named("lon", numbers);
  const body = named("body", columns.filter((column) => column.type === "text" && column.values));
  const diameter = numbers.find((column) => column.name.startsWith("diameter")) ?? null;
  const known = new Set([lat, lon, body, diameter]);
  const rest = columns.filter((column) => !known.has(column) && filterable(column));
  const placed = lat && lon; // one without the other says nothing
  return { lat: placed ? lat : null, lon: placed ? lon : null, body, diameter, rest };
}

function filterable(column) {
  if (column.type === "number") return column.min !== null && column.min !== column.max;
  return column.type === "boolean" || (column.values?.length ?? 0) > 1;
}

/** {lat, lon, body, diameter} of one item's columns; diameter in km. */
export function known(values, role) {
  const number = (column) => (column && typeof values[column.name] === "number" ? values[column.name] : NaN);
  const scale = role.diameter?.name === "diameter_m" ? 0.001 : 1;
  return {
    lat: number(role.lat),
    lon: number(role.lon),
    body: role.body ? values[role.body.name] : null,
    diameter: number(role.diameter) * scale,
  };
}
