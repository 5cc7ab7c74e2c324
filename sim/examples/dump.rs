use powerfail::*;
fn main(){
  let a: Vec<String> = std::env::args().collect();
  let plan = run::Plan{preset: a[2].parse().unwrap(), schedule: a[3].parse().unwrap()};
  let s: u64 = a[1].parse().unwrap();
  let mut w = run::world::<blk::Blk>(&None, plan, 0);
  let mut acts = vec![];
  let v=run::run_seed(&mut w, plan, s, |a| acts.push(*a));
  println!("{:?}", w.options());
  let opts = *w.options();
  let rule = v.failure.as_ref().unwrap().violation.rule;
  let mut chunk = acts.len()/2;
  while chunk>0 { let mut i=0; let mut any=false; while i<acts.len() { let mut t=acts.clone(); let e=(i+chunk).min(t.len()); t.drain(i..e); let r=run::replay(&mut w, opts, run::run_number(s), &t, |_|{}); if r.failure.as_ref().is_some_and(|f| f.violation.rule==rule) { acts=t; any=true } else { i+=chunk } } if !any || chunk>1 { chunk/=2 } }
  for a in &acts { println!("{a}"); let t=a.to_string(); assert_eq!(t.parse::<action::Action>().unwrap(), *a); }
  let r=run::replay(&mut w, opts, run::run_number(s), &acts, |_|{});
  println!("{} {:?}", r.failure.as_ref().unwrap().violation, r.failure.as_ref().unwrap().violation.because);
}
