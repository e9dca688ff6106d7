//! The binary `conduit-proxy`: no flags but `--version` and `--help`; everything else comes from the environment.

mod allocator;

use conduit_model::settings::SETTINGS;
use conduit_proxy::app::{self, settings::Settings};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => serve(),
        (Some("--version" | "-V"), None) => {
            println!("conduit-proxy {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        (Some("--help" | "-h"), None) => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        (Some(argument), _) => {
            fail(&format!("unexpected argument {argument:?}: settings are environment variables, see --help"))
        }
    }
}

fn serve() -> ExitCode {
    let run = || {
        let settings = Settings::read(|name| std::env::var(name).ok())?;
        app::run(settings)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("{e:#}")),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("conduit-proxy: {reason}");
    ExitCode::FAILURE
}

fn help() -> String {
    let mut text = "The data plane of Conduit. Settings are environment variables:\n\n".to_owned();
    for setting in SETTINGS {
        let default = setting.default.map_or("required".to_owned(), |default| format!("default {default:?}"));
        text += &format!("  {} ({default})\n      {} It is {}.\n", setting.name, setting.about.trim(), setting.expects);
    }
    text
}
