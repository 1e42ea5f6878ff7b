// Says how much of a form is still open, and keeps a form from being sent twice. Everything works without it.
"use strict";
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form")) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
  }
});
const open = document.querySelector("#open");
const rating = document.querySelector("form.rating");
if (open && rating) {
  const count = () => {
    const names = new Set([...rating.querySelectorAll("input[type=radio]")].map((one) => one.name));
    const left = names.size - rating.querySelectorAll("input[type=radio]:checked").length;
    open.textContent = left ? `${left} of ${names.size} answers still open` : "Everything is answered";
  };
  rating.addEventListener("change", count);
  count();
}
const errors = document.querySelector("#problems");
if (errors) errors.focus();
