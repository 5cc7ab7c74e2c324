//! The `powerfail` program.

fn main() -> std::process::ExitCode {
    powerfail::builtin()
}
