use powerfail::blk::Blk;
use powerfail::explore::*;
fn main() {
    let mut scope = Scope::default();
    let a: Vec<String> = std::env::args().collect();
    scope.requests = a[1].parse().unwrap();
    scope.rows = a[2].split(',').map(|r| r.parse().unwrap()).collect();
    if a.len() > 3 {
        scope.reduction = a[3].parse().unwrap();
    }
    let t = std::time::Instant::now();
    let r = explore::<Blk>(&None, &scope, Effort::on(2), &Gauge::default());
    println!("{scope}\n{:#?}", r.tally);
    println!("lives {} parts {} {:?}", r.lives, r.parts, t.elapsed());
    println!(
        "{} steps/s/core {} dev steps/s/core",
        r.tally.steps as f64 / t.elapsed().as_secs_f64() / 2.,
        r.tally.device_steps as f64 / t.elapsed().as_secs_f64() / 2.
    );
    for (s, c) in r.broken {
        println!("{s} row {} {:?}", c.row, c.failure.violation);
        for a in c.actions {
            println!("  {a}");
        }
    }
}
