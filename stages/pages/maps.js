// Shows the picture of a mark that is clicked, or reached by the arrow keys, on all maps at once.
(() => {
  const known = JSON.parse(document.getElementById("known").textContent);
  const panel = document.getElementById("picture");
  const maps = [...document.querySelectorAll("svg.map")];
  let current = -1;

  const show = (index) => {
    current = index;
    const [name, hospital, label, part, jpeg] = known.pictures[index];
    panel.querySelector("img").src = "data:image/jpeg;base64," + jpeg;
    panel.querySelector("img").alt = `cell of ${hospital}, published ${label}`;
    panel.querySelector("strong").textContent = `${label}, ${hospital}`;
    panel.querySelector("span").textContent = part;
    panel.querySelector("small").textContent = name;
    panel.hidden = false;
    for (const map of maps) {
      const [x, y] = known.places[map.dataset.map][index];
      const ring = map.querySelector(".ring");
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
    }
  };

  const hide = () => {
    panel.hidden = true;
    current = -1;
    document.querySelectorAll(".ring").forEach((ring) => ring.removeAttribute("cx"));
  };

  for (const map of maps) {
    const places = known.places[map.dataset.map];
    map.addEventListener("click", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(
        map.getScreenCTM().inverse(),
      );
      const far = places.map(([x, y]) => (x - at.x) ** 2 + (y - at.y) ** 2);
      show(far.indexOf(Math.min(...far)));
    });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show((Math.max(current, 0) + step + places.length) % places.length);
    });
  }
  panel.querySelector("button").addEventListener("click", hide);
})();
