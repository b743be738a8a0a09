// Where in its box an image is drawn: `object-fit: contain`, as numbers.

/** {left, top, width, height} in pixels of `around`'s frame. */
export function frameOf(image, around) {
  const box = image.getBoundingClientRect();
  const outer = around.getBoundingClientRect();
  const [across, down] = [image.naturalWidth || 1, image.naturalHeight || 1];
  const scale = Math.min(box.width / across, box.height / down);
  const [width, height] = [across * scale, down * scale];
  return {
    left: box.left - outer.left + (box.width - width) / 2,
    top: box.top - outer.top + (box.height - height) / 2,
    width,
    height,
  };
}
