"use strict";
// Inflates Plotly, draws all figures, and redraws them when the colour scheme or the screen changes.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const small = matchMedia("(max-width: 700px)");
  const touch = matchMedia("(pointer: coarse)");
  const boxes = [...document.querySelectorAll(".plot")];
  let figures = [];

  async function read(id) {
    const script = document.getElementById(id);
    return JSON.parse(script.type === "text/plain" ? await inflate(script) : script.textContent);
  }

  async function inflate(script) {
    const packed = atob(script.textContent);
    const bytes = new Uint8Array(packed.length);
    for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }

  function run(source) {
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
  }

  function setPath(target, path, value) {
    const steps = path.split(".");
    const last = steps.pop();
    const place = steps.reduce((node, step) => (node[step] ??= {}), target);
    place[last] = value;
  }

  function themed(layout) {
    const copy = structuredClone(layout);
    const arrangement = copy.meta?.[small.matches ? "narrow" : "wide"] ?? {};
    for (const [path, value] of Object.entries(arrangement)) setPath(copy, path, value);
    const style = getComputedStyle(root);
    const [ink, soft, line, grid] = ["--ink", "--soft", "--line", "--grid"].map((name) => style.getPropertyValue(name).trim());
    setPath(copy, "font.color", soft);
    if (small.matches) setPath(copy, "font.size", 12);
    for (const annotation of copy.annotations ?? []) annotation.font = { color: ink, ...annotation.font };
    for (const key of new Set([...Object.keys(copy), "xaxis", "yaxis"])) {
      if (/^[xy]axis\d*$/.test(key)) copy[key] = { gridcolor: grid, linecolor: line, tickcolor: line, ...copy[key] };
      if (/^coloraxis\d*$/.test(key)) setPath(copy, `${key}.colorbar.tickcolor`, line);
      if (/^scene\d*$/.test(key)) {
        for (const axis of ["xaxis", "yaxis", "zaxis"]) copy[key][axis] = { color: soft, gridcolor: line, ...copy[key][axis] };
      }
    }
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: soft, ...copy.modebar };
    // The width of A4 or Letter without margins; at the width of the screen the figure would be cut off.
    if ("print" in root.dataset) copy.width = 680;
    // On a touch screen a drag scrolls the page instead of zooming the axes.
    if (touch.matches) copy.dragmode = false;
    return copy;
  }

  const buttons = ["pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"];
  const config = {
    responsive: true,
    // The wheel scrolls the page, also over a 3-D scene.
    scrollZoom: false,
    displaylogo: false,
    displayModeBar: !touch.matches,
    modeBarButtonsToRemove: buttons,
    // Disables the button of Plotly 4 that uploads the chart to a server.
    showSendToCloud: false,
    plotlyServerURL: "",
  };

  async function draw() {
    await Promise.all(boxes.map((box, i) => {
      box.style.minHeight = "";
      return Plotly.react(box, figures[i].data, themed(figures[i].layout), config);
    }));
    // Number of times that all figures were drawn; the tests wait for it.
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
  }

  function showError(problem) {
    for (const box of boxes) {
      const note = document.createElement("p");
      note.className = "problem";
      note.textContent = `This figure could not be drawn (${problem}). Its numbers are in summary.json.`;
      box.replaceChildren(note);
    }
  }

  async function start() {
    figures = await Promise.all(boxes.map((box) => read(box.dataset.figure)));
    run(await inflate(document.getElementById("plotly")));
    for (const box of boxes) box.replaceChildren();
    await draw();
    dark.addEventListener("change", draw);
    small.addEventListener("change", draw);
    // Print with the light colour scheme.
    addEventListener("beforeprint", () => { root.dataset.print = ""; draw(); });
    addEventListener("afterprint", async () => {
      delete root.dataset.print;
      await draw();
      boxes.forEach((box) => Plotly.Plots.resize(box));
    });
  }

  start().catch(showError);
})();
