use powerfail::*;
fn main(){
  let a: Vec<String> = std::env::args().collect();
  let n: u64 = a[1].parse().unwrap(); let preset: spec::Preset = a[2].parse().unwrap(); let sch: pilot::Schedule = a[3].parse().unwrap();
  let from: u64 = a.get(4).map_or(0,|x|x.parse().unwrap());
  let plan = run::Plan{preset, schedule: sch};
  if a.len()<6 {std::panic::set_hook(Box::new(|_|{}));}
  let mut w = run::world::<blk::Blk>(&None, plan, 0);
  let t=std::time::Instant::now();
  let mut fails=0; let mut shown=0; let mut h=0u64;
  let mut byrule=std::collections::BTreeMap::new();
  for s in from..from+n {
    let v=run::run_seed(&mut w, plan, s, |_|{});
    h=h.wrapping_mul(31).wrapping_add(v.hash);
    if let Some(f)=v.failure { fails+=1; *byrule.entry(f.violation.rule.name()).or_insert(0)+=1; if shown<8 {shown+=1; println!("seed {s}: {} | {} {:?}", f.violation.rule.name(), f.violation, f.violation.because);} 
      if f.violation.rule==powerfail_model::Rule::DevicePanicked { w = run::world::<blk::Blk>(&None, plan, 0); } }
  }
  let e=t.elapsed();
  println!("{n} runs {:?} = {:.1} us/run, fails {fails} {byrule:?} hash {h:x}", e, e.as_micros() as f64/n as f64);
  println!("{:?}", w.stats()); 
  println!("missing {:?}", w.coverage().missing().collect::<Vec<_>>());
}
