function start() {
  byId("token-section").hidden = true;
  watchStatus();
  watchTopology();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("understudy-probe-token", byId("token").value);
  byId("token").value = "";
  start();
});
byId("recovery-form").addEventListener("submit", (event) => {
  event.preventDefault();
  runRecovery();
});
byId("recovery-stop").addEventListener("click", () => running && running.abort());
start();
