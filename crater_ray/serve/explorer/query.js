// The query: an image that is dropped, pasted or chosen; or an item of the index.

import { known } from "./columns.js";
import { byId, element } from "./dom.js";
import { show } from "./pictures.js";
import { capital, kilometres, place } from "./format.js";

const SUGGESTIONS = 20; // ids under the field

/** `image(file)` and `item(id)` are called with the user's query. `points` is what the map knows. */
export function makeQuery(role, points, { image, item }) {
  const fileInput = byId("file");
  const field = byId("id");
  const views = byId("views");
  let url = null;

  fileInput.addEventListener("change", (event) => {
    event.stopPropagation();
    if (fileInput.files.length) image(fileInput.files[0]);
    fileInput.value = "";
  });
  takeDrops(byId("drop"), image);
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (pasted) image(pasted);
  });

  field.addEventListener("input", () => {
    const found = field.value ? points.like(field.value, SUGGESTIONS) : [];
    byId("ids").replaceChildren(...found.map((id) => element("option", { value: id })));
  });
  field.addEventListener("change", (event) => event.stopPropagation());
  views.addEventListener("change", (event) => {
    event.stopPropagation();
    item(views.value);
  });

  return {
    /** Shows the item as the query. */
    showItem(id, group, columns) {
      field.value = id;
      const picture = byId("query-card-image");
      picture.alt = `Query: ${id}`;
      show(picture, id, 192);
      const { lat, lon, body, diameter } = known(columns, role);
      describe(id, [capital(body), place(lat, lon), kilometres(diameter)]);
      offerViews(id, group);
    },
    /** The image's URL, for as long as it is the query. */
    showImage(data) {
      if (url) URL.revokeObjectURL(url);
      url = URL.createObjectURL(data);
      field.value = "";
      const picture = byId("query-card-image");
      picture.dataset.item = "";
      picture.alt = `Query: ${data.name}`;
      picture.src = url;
      describe(data.name || "Pasted image", [`${Math.max(1, Math.round(data.size / 1024))} kB`, "not in a link"]);
      byId("views-field").hidden = true;
      return url;
    },
    showNothing() {
      byId("query-card").hidden = true;
      field.value = "";
    },
    typed: () => field.value.trim(),
  };

  function describe(name, facts) {
    byId("query-card").hidden = false;
    byId("query-card-name").textContent = name;
    byId("query-card-name").title = name;
    byId("query-card-facts").replaceChildren(...facts.filter(Boolean).map((fact) => element("span", {}, fact)));
  }

  function offerViews(id, group) {
    const among = group === null ? [] : points.views(group);
    byId("views-field").hidden = among.length < 2;
    const options = among.map((one) => element("option", { value: one, selected: one === id }, one));
    views.replaceChildren(...options);
  }
}

function takeDrops(zone, image) {
  let inside = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (carries(event)) zone.classList.toggle("over", ++inside > 0);
  });
  document.addEventListener("dragleave", (event) => {
    if (carries(event)) zone.classList.toggle("over", --inside > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (carries(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    inside = 0;
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) image(event.dataTransfer.files[0]);
  });
}
