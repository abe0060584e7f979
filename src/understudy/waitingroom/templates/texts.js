/* Everything that the page says, in each language. A text with numbers in it is a function. */
const TEXTS = {
  en: {
    room: "Waiting room", other: "한국어", pageTitle: (event) => `${event} – waiting room`,
    place: "Your place in line", before: "Before you", behind: "Behind you", estimate: "Estimated wait", front: "your turn",
    from: (n) => `you began at ${n}`, count: (n) => n.toLocaleString("en"),
    heard: (place, words) => `You are number ${place} in line.${words ? ` Estimated wait: ${words}.` : ""}`,
    soon: "less than a minute", minutes: (n) => (n === 1 ? "about 1 minute" : `about ${n} minutes`),
    hours: (n) => (n === 1 ? "about 1 hour" : `about ${n} hours`), days: "more than a day",
    auto: "Enter for me when it is my turn", autoNote: "Otherwise you press a button, and have a little time for it.",
    keep: "Keep this page open. Reloading it, or opening it twice, changes nothing: your place is kept in this browser.",
    foot: "A fair line: first come, first served. This page loads nothing from anywhere else and sets no cookies.",
    turn: "It is your turn", enter: "Enter now", within: "Time left to enter",
    turnHeard: (time) => `It is your turn. Press Enter now within ${time}.`, titleTurn: (time) => `▶ ${time} Enter now`,
    entering: "Entering …", inside: "You are in", continue: "Continue", session: "Your time in here:",
    onward: "Go on to the shop. It knows from this link that it was your turn.",
    foreign: "The address that this page was to lead to is not one of this shop's. You can choose your seats here.",
    choose: "Choose your seats", yours: "These seats are yours", many: "Seats", fewer: "one seat fewer", more: "one seat more",
    pick: "Pick for me", row: "Row", AVAILABLE: "available", CHOSEN: "chosen", MINE: "held for you", TAKEN: "held by others",
    SOLD: "sold", BOUGHT: "yours", seat: (name, state) => `Seat ${name}, ${state}`, rowName: (name) => `Row ${name}`,
    mapHelp: "Arrow keys move between seats, the space bar chooses.",
    left: (n, all) => `${n.toLocaleString("en")} of ${all.toLocaleString("en")} seats are free.`,
    held: "Held for you:", holdLeft: "for", chosen: "Chosen:", clear: "Clear", release: "Give back", none: "Tap the seats that you want.",
    hold: (n) => `Hold ${n === 1 ? "1 seat" : `${n} seats`}`, confirm: (n) => `Confirm ${n === 1 ? "1 seat" : `${n} seats`}`,
    holdHeard: (seats, time) => `Held for you: ${seats}. Confirm within ${time}.`, boughtHeard: (seats) => `Confirmed: ${seats}.`,
    releasedHeard: "Given back.", working: "One moment …",
    holdOver: "The time of your hold is over, and the seats are free again. You can choose anew.",
    noneTogether: (n) => (n === 1 ? "No seat is free right now." : `No ${n} seats next to each other are free. Try fewer, or choose them yourself.`),
    leave: "Leave the line", leaveInside: "Leave",
    leaveTitle: "Leave the line?", leaveText: (n) => `Your place, number ${n}, goes to who is behind you. You cannot get it back.`,
    leaveTurnText: "Your turn goes to somebody else. You cannot get it back.",
    leaveInsideTitle: "Leave the shop?", leaveInsideText: "Seats that you hold and have not confirmed become free for others.",
    leaveYes: "Leave", leaveNo: "Stay",
    joiningTitle: "Getting your place …", joiningText: "This takes a moment.", again: "Join the line again", retry: "Try again", stay: "Stay in the line",
    notice: {
      lost: ["Connection lost.", "Your place is kept. This page tries again by itself."],
      unsure: ["Connection lost.", "This page tries again by itself; asking twice does not give two places."],
      inside: ["Connection lost.", "What you hold stays held until its time is over. This page tries again by itself."],
      busy: ["Very busy.", "Your place is kept. This page tries again by itself in a moment."],
      paused: ["The line is paused.", "Nobody is let in right now. Your place is kept, and it goes on from here."],
      still: ["The line stands still for now.", "Your place is kept."],
      closed: ["The sale is closed.", "Nobody more is let in. Your place is kept in case it opens again."],
      soldout: ["Sold out.", "No seats are free right now. Held seats can become free again; you may stay or leave."],
      storage: ["This browser keeps nothing.", "Do not reload or close this page, or your place is lost. Allow this site to store data to be safe."],
    },
    message: {
      notopen: ["Not open yet", "The line has not opened. Keep this page open: it takes a place for you as soon as it does. Being early gives no better place."],
      closedJoin: ["The sale is closed", "Nobody can join the line now. This page looks again by itself."],
      full: ["The line is full", "No more people can join right now. This page tries again by itself."],
      noevent: ["There is no such sale", "Check the address of this page; perhaps the sale is over."],
      soldout: ["Sold out", "All seats are sold or held. A hold that runs out makes its seats free again, and then they appear here."],
      left: ["You left the line", "If you change your mind you can join again, at the end of the line."],
      expired: ["Your turn is over", "You were called, and did not enter in time, so that somebody else could. You can join again, at the end of the line."],
      abandoned: ["Your place is gone", "This page gave no sign of life for too long, so the line went on without you. You can join again, at the end of the line."],
      aged: ["Your place is gone", "The line was tidied up, and your ticket was too old. You can join again, at the end of the line."],
      ended: ["Your time is over", "Your time in here has ended. You can join again, at the end of the line."],
      endedBought: ["Thank you", "Your time in here has ended. These seats are yours:"],
      serving: ["It is your turn", "Somebody is looking after you right now. Keep this page open."],
      done: ["Done", "You have been looked after. Thank you for waiting."],
      unknown: ["Your ticket is not known", "It is too long ago, or the sale was made anew. You can join the line."],
      failed: ["That did not work", "Something is wrong on our side. Try again in a moment."],
    },
    problem: {
      LOST: "No answer came. Check your connection and press again: nothing is done twice.",
      UNAVAILABLE: "The server did not answer in time. Press again: nothing is done twice.",
      TOO_MANY_REQUESTS: "That was too fast. Wait a moment and press again.",
      SEAT_UNAVAILABLE: (seats) => `Somebody was faster: ${seats}. Choose others.`,
      SOLD_OUT: "Not enough seats are free. Held seats may become free again.",
      TOO_MANY_SEATS: (most) => (most ? `One person can have ${most === "1" ? "1 seat" : `${most} seats`}. Choose fewer.` : "That is more seats than one person can have. Choose fewer."),
      NOT_HOLDER: "You do not hold these seats any more; the hold has run out. Choose again.",
      SEAT_SOLD: "These seats are sold already and cannot be given back.",
      NO_SEAT: (seats) => `There is no such seat: ${seats}. Choose others.`,
      EVENT_NOT_OPEN: "The sale is closed. Nothing can be held any more.",
      other: (code) => `That did not work (${code}). Try again; if it stays, tell the shop that word.`,
    },
  },
  ko: {
    room: "대기실", other: "English", pageTitle: (event) => `${event} – 대기실`,
    place: "내 대기 순번", before: "내 앞", behind: "내 뒤", estimate: "예상 대기 시간", front: "내 차례",
    from: (n) => `${n}번에서 시작`, count: (n) => n.toLocaleString("ko"),
    heard: (place, words) => `현재 대기 순번은 ${place}번입니다.${words ? ` 예상 대기 시간: ${words}.` : ""}`,
    soon: "1분 이내", minutes: (n) => `약 ${n}분`, hours: (n) => `약 ${n}시간`, days: "하루 이상",
    auto: "내 차례가 되면 자동으로 입장", autoNote: "선택하지 않으면 차례가 되었을 때 제한 시간 안에 버튼을 눌러야 합니다.",
    keep: "이 페이지를 열어 두세요. 새로고침하거나 여러 번 열어도 순번은 바뀌지 않으며, 이 브라우저에 보관됩니다.",
    foot: "먼저 온 순서대로 입장합니다. 이 페이지는 외부에서 아무것도 불러오지 않으며 쿠키를 사용하지 않습니다.",
    turn: "입장하실 차례입니다", enter: "지금 입장하기", within: "입장까지 남은 시간",
    turnHeard: (time) => `입장하실 차례입니다. ${time} 안에 지금 입장하기를 누르세요.`, titleTurn: (time) => `▶ ${time} 지금 입장하기`,
    entering: "입장하는 중 …", inside: "입장했습니다", continue: "계속하기", session: "이용 가능 시간:",
    onward: "판매 페이지로 이동하세요. 이 링크로 차례가 확인됩니다.",
    foreign: "이동하려던 주소는 이 판매처의 주소가 아닙니다. 좌석은 여기에서 선택할 수 있습니다.",
    choose: "좌석 선택", yours: "구매가 확정된 좌석", many: "좌석 수", fewer: "한 자리 줄이기", more: "한 자리 늘리기",
    pick: "자동 선택", row: "열", AVAILABLE: "선택 가능", CHOSEN: "선택함", MINE: "내가 선점", TAKEN: "다른 사람이 선점",
    SOLD: "판매됨", BOUGHT: "내 좌석", seat: (name, state) => `좌석 ${name}, ${state}`, rowName: (name) => `${name}열`,
    mapHelp: "화살표 키로 좌석을 이동하고 스페이스 바로 선택합니다.",
    left: (n, all) => `전체 ${all.toLocaleString("ko")}석 중 ${n.toLocaleString("ko")}석이 남아 있습니다.`,
    held: "선점한 좌석:", holdLeft: "남은 시간", chosen: "선택한 좌석:", clear: "선택 취소", release: "반납하기", none: "원하는 좌석을 누르세요.",
    hold: (n) => `${n}석 선점하기`, confirm: (n) => `${n}석 구매 확정`,
    holdHeard: (seats, time) => `선점한 좌석: ${seats}. ${time} 안에 확정하세요.`, boughtHeard: (seats) => `확정했습니다: ${seats}.`,
    releasedHeard: "반납했습니다.", working: "처리 중 …",
    holdOver: "선점 시간이 끝나 좌석이 다시 풀렸습니다. 다시 선택할 수 있습니다.",
    noneTogether: (n) => (n === 1 ? "지금은 남은 좌석이 없습니다." : `나란히 붙은 ${n}석이 없습니다. 좌석 수를 줄이거나 직접 선택하세요.`),
    leave: "대기 취소", leaveInside: "나가기",
    leaveTitle: "대기를 취소할까요?", leaveText: (n) => `현재 순번 ${n}번은 뒤에 있는 분에게 넘어가며 되돌릴 수 없습니다.`,
    leaveTurnText: "차례가 다른 분에게 넘어가며 되돌릴 수 없습니다.",
    leaveInsideTitle: "나가시겠습니까?", leaveInsideText: "확정하지 않은 선점 좌석은 다른 분이 선택할 수 있게 됩니다.",
    leaveYes: "나가기", leaveNo: "계속 있기",
    joiningTitle: "순번을 받는 중 …", joiningText: "잠시만 기다려 주세요.", again: "다시 줄 서기", retry: "다시 시도", stay: "계속 기다리기",
    notice: {
      lost: ["연결이 끊어졌습니다.", "순번은 그대로 유지됩니다. 자동으로 다시 연결합니다."],
      unsure: ["연결이 끊어졌습니다.", "자동으로 다시 시도합니다. 여러 번 요청해도 순번은 하나뿐입니다."],
      inside: ["연결이 끊어졌습니다.", "선점한 좌석은 제한 시간까지 유지됩니다. 자동으로 다시 연결합니다."],
      busy: ["접속자가 많습니다.", "순번은 그대로 유지됩니다. 잠시 후 자동으로 다시 시도합니다."],
      paused: ["입장이 일시 중지되었습니다.", "지금은 아무도 입장하지 않습니다. 순번은 유지되며 재개되면 그대로 이어집니다."],
      still: ["지금은 입장이 멈춰 있습니다.", "순번은 그대로 유지됩니다."],
      closed: ["판매가 종료되었습니다.", "더 이상 입장하지 않습니다. 다시 열릴 경우를 위해 순번은 유지됩니다."],
      soldout: ["매진되었습니다.", "지금은 남은 좌석이 없습니다. 선점된 좌석이 다시 풀릴 수 있으니 계속 기다리거나 나갈 수 있습니다."],
      storage: ["이 브라우저에 저장할 수 없습니다.", "새로고침하거나 닫으면 순번을 잃습니다. 이 사이트의 데이터 저장을 허용해 주세요."],
    },
    message: {
      notopen: ["아직 시작 전입니다", "대기가 아직 열리지 않았습니다. 이 페이지를 열어 두면 시작될 때 자동으로 순번을 받습니다."],
      closedJoin: ["판매가 종료되었습니다", "지금은 줄을 설 수 없습니다. 이 페이지가 자동으로 다시 확인합니다."],
      full: ["대기 인원이 가득 찼습니다", "지금은 더 이상 줄을 설 수 없습니다. 자동으로 다시 시도합니다."],
      noevent: ["없는 판매입니다", "주소를 확인해 주세요. 판매가 이미 끝났을 수도 있습니다."],
      soldout: ["매진", "모든 좌석이 판매되었거나 선점되었습니다. 선점이 풀리면 좌석이 여기에 다시 나타납니다."],
      left: ["대기를 취소했습니다", "다시 줄을 서면 맨 뒤에서 시작합니다."],
      expired: ["입장 시간이 지났습니다", "제한 시간 안에 입장하지 않아 다음 분에게 차례가 넘어갔습니다. 다시 줄을 서면 맨 뒤에서 시작합니다."],
      abandoned: ["순번이 사라졌습니다", "이 페이지에서 오랫동안 응답이 없어 대기가 취소되었습니다. 다시 줄을 서면 맨 뒤에서 시작합니다."],
      aged: ["순번이 사라졌습니다", "대기표가 오래되어 정리되었습니다. 다시 줄을 서면 맨 뒤에서 시작합니다."],
      ended: ["이용 시간이 끝났습니다", "다시 줄을 서면 맨 뒤에서 시작합니다."],
      endedBought: ["감사합니다", "이용 시간이 끝났습니다. 구매가 확정된 좌석:"],
      serving: ["차례가 되었습니다", "지금 처리하고 있습니다. 이 페이지를 열어 두세요."],
      done: ["완료되었습니다", "기다려 주셔서 감사합니다."],
      unknown: ["확인할 수 없는 대기표입니다", "너무 오래되었거나 판매가 새로 만들어졌습니다. 다시 줄을 설 수 있습니다."],
      failed: ["처리하지 못했습니다", "서버에 문제가 있습니다. 잠시 후 다시 시도해 주세요."],
    },
    problem: {
      LOST: "응답이 없습니다. 연결을 확인하고 다시 눌러 주세요. 두 번 처리되지 않습니다.",
      UNAVAILABLE: "서버가 제때 응답하지 않았습니다. 다시 눌러 주세요. 두 번 처리되지 않습니다.",
      TOO_MANY_REQUESTS: "너무 빨리 눌렀습니다. 잠시 후 다시 눌러 주세요.",
      SEAT_UNAVAILABLE: (seats) => `다른 분이 먼저 선택했습니다: ${seats}. 다른 좌석을 선택하세요.`,
      SOLD_OUT: "남은 좌석이 부족합니다. 선점된 좌석이 다시 풀릴 수 있습니다.",
      TOO_MANY_SEATS: (most) => (most ? `한 사람이 ${most}석까지 선택할 수 있습니다. 좌석 수를 줄여 주세요.` : "선택할 수 있는 좌석 수를 넘었습니다. 좌석 수를 줄여 주세요."),
      NOT_HOLDER: "선점 시간이 지나 더 이상 선점한 좌석이 아닙니다. 다시 선택하세요.",
      SEAT_SOLD: "이미 판매된 좌석은 반납할 수 없습니다.",
      NO_SEAT: (seats) => `없는 좌석입니다: ${seats}. 다른 좌석을 선택하세요.`,
      EVENT_NOT_OPEN: "판매가 종료되어 더 이상 선점할 수 없습니다.",
      other: (code) => `처리하지 못했습니다 (${code}). 다시 시도하고, 계속되면 이 문구를 판매처에 알려 주세요.`,
    },
  },
};

const asked = new URLSearchParams(location.search).get("lang");
const wanted = [asked, ...(navigator.languages || [navigator.language])].filter(Boolean).map((one) => one.slice(0, 2).toLowerCase());
let language = wanted.find((one) => Object.hasOwn(TEXTS, one)) || "en";
let words = TEXTS[language];

function speak(chosen) {
  language = chosen;
  words = TEXTS[chosen];
  document.documentElement.lang = chosen;
  for (const element of document.querySelectorAll("[data-say]")) say(element, words[element.dataset.say]);
  byId("language").textContent = words.other;
  byId("language").lang = chosen === "ko" ? "en" : "ko";
  byId("fewer").setAttribute("aria-label", words.fewer);
  byId("more").setAttribute("aria-label", words.more);
}

/* An estimate, no more exact than it is; nothing where none is known. */
function estimateWords(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "";
  if (seconds < 50) return words.soon;
  if (seconds < 3300) return words.minutes(Math.max(1, Math.round(seconds / 60)));
  return seconds < 79200 ? words.hours(Math.max(1, Math.round(seconds / 3600))) : words.days;
}

function explain(error) {
  const text = words.problem[error.code];
  if (typeof text === "function") return text(error.items.join(", "));
  return text || words.problem.other(error.code);
}
