//! `cap_add`, `cap_drop`, `privileged` and `security_opt`.

use crate::config::Node;
use crate::service::Privileges;
use crate::service::capability;
use crate::service::value::Reader;
use crate::words::near;

impl Reader<'_> {
    pub(super) fn privileges(&mut self, service: &Node) -> Privileges {
        if service.get("privileged").and_then(|it| self.boolean(it)).unwrap_or(false) {
            return Privileges::ALL;
        }
        let (add, adds_all) = self.capabilities(service, "cap_add");
        let (drop, drops_all) = self.capabilities(service, "cap_drop");
        // The order of Docker: `ALL` of `cap_add` counts first, then that of `cap_drop`.
        let capabilities = match (adds_all, drops_all) {
            (true, _) => capability::ALL & !drop,
            (false, true) => add,
            (false, false) => capability::DEFAULT & !drop | add,
        };
        let options = service.get("security_opt").map(|it| self.texts(it)).unwrap_or_default();
        let is_off = |it: &str| matches!(it, "seccomp=unconfined" | "seccomp:unconfined");
        Privileges { capabilities, filtered: !options.iter().any(|(it, _)| is_off(it)) }
    }

    /// The capabilities of a list, and whether `ALL` is in it.
    fn capabilities(&mut self, service: &Node, key: &str) -> (u64, bool) {
        let mut set = 0;
        let mut all = false;
        for (text, node) in service.get(key).map(|it| self.texts(it)).unwrap_or_default() {
            let name = text.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            match capability::NAMES.iter().position(|it| *it == name) {
                Some(number) => set |= 1 << number,
                None if name == "ALL" => all = true,
                None => {
                    let help = match near(name, capability::NAMES) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "expected a name such as `SYS_ADMIN`, or `ALL`".to_owned(),
                    };
                    self.bad(node, format!("unknown capability `{text}`"), help);
                }
            }
        }
        (set, all)
    }
}
