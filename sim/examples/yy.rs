use powerfail::blk::Blk;
use powerfail::dut::DeviceUnderTest;
use powerfail::explore::*;
use powerfail::pmem::Pmem;
use powerfail::wrong::*;
fn hunt<D: DeviceUnderTest>(setup: D::Setup, scope: &Scope) -> Option<Counterexample> {
    shortest::<D>(&setup, scope, Effort::on(2), &Gauge::default())
}
fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let a: Vec<String> = std::env::args().collect();
    let mut scope = Scope::default();
    scope.requests = a[1].parse().unwrap();
    scope.faults = a[2].parse().unwrap();
    scope.kinds = a[3].split(',').map(|k| k.parse().unwrap()).collect();
    scope.reduction = a[4].parse().unwrap();
    for wrong in Wrong::all() {
        if a.len() > 5 && !a[5..].iter().any(|n| n == wrong.name()) {
            continue;
        }
        let t = std::time::Instant::now();
        let found = match wrong {
            Wrong::Disk(f) => hunt::<Blk>(Some(f), &scope),
            Wrong::Device(f) => hunt::<WrongDevice>(f, &scope),
            Wrong::Memory(f) => hunt::<Pmem>(Some(f), &scope),
        };
        match found {
            Some(c) => println!(
                "{:28} row {} steps {:3} actions {:3} {:?} {} {:?}",
                wrong.name(),
                c.row,
                c.steps,
                c.actions.len(),
                c.failure.violation.rule,
                if wrong.caught_by().contains(&c.failure.violation.rule) { "" } else { "OTHER" },
                t.elapsed()
            ),
            None => println!("{:28} - {:?}", wrong.name(), t.elapsed()),
        }
    }
}
