// Lays each reconstruction over its original, with a slider that moves the cut between them. Without this script the pictures stand side
// by side.
for (const figure of document.querySelectorAll(".comparison")) {
  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.max = "100";
  slider.value = "50";
  slider.setAttribute("aria-label", "Cut between original (left) and reconstruction (right), per cent");
  const move = () => figure.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", move);
  move();
  figure.classList.add("sliding");
  figure.querySelector(".pictures").after(slider);
}
